import math
from xml.etree import ElementTree

import pytest

from trivet.report.curves import loss_chart, metric_chart, rate_chart

CHARTS = {"loss": loss_chart, "metric": metric_chart, "rate": rate_chart}
HISTORIES = {
    "empty": [],
    "one row": [{"step": 0, "epoch": 0, "loss": 1.0, "lr": 0.1}],
    "not finite": [
        {"step": i, "epoch": i, "loss": math.nan, "lr": math.inf, "val_map": math.nan} for i in range(3)
    ],
    "only validation": [{"step": 9, "epoch": 0, "val_map": 0.5, "val_map50": 0.7}],
}


def words(svg: str) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def told(svg: str) -> str:
    return next(e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("desc"))


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_every_chart_can_be_drawn_of_any_history(chart, history):
    assert chart(history).startswith("<svg")


def test_losses_are_means_an_epoch():
    history = [{"step": i, "epoch": i // 2, "loss": float(i), "class": 0.0} for i in range(4)]
    svg = loss_chart(history)
    assert told(svg) == "Last values: loss 2.5, class 0."
    assert {"epoch", "loss", "class"} <= set(words(svg))


def test_one_epoch_is_shown_by_step(make_history):
    assert "step" in words(loss_chart(make_history(1)))
    assert "epoch" in words(loss_chart(make_history(2)))


def test_the_whole_loss_comes_first_and_the_validation_loss_last():
    history = [{"step": 0, "epoch": 0, "box": 1.0, "val_loss": 2.0, "val_box": 0.5, "loss": 3.0}]
    svg = loss_chart(history)
    assert told(svg) == "Last values: loss 3, box 1, val_loss 2."
    assert "validation loss" in words(svg)


def test_what_a_row_tells_beside_losses_is_not_drawn_as_one():
    history = [
        {"step": 1, "epoch": 1, "progress": 0.1, "lr": 0.1, "seconds": 60.0, "waited": 1.0, "loss": 3.0}
    ]
    assert told(loss_chart(history)) == "Last values: loss 3."


def test_the_best_validation_score_is_named():
    history = [{"step": i, "epoch": i, "val_map": score} for i, score in enumerate((0.1, 0.6, 0.4))]
    svg = metric_chart(history)
    assert told(svg) == "Best 0.600, in epoch 1."
    assert "mAP50" not in words(svg)


def test_a_first_loss_that_dwarfs_the_rest_makes_the_axis_logarithmic():
    flat = loss_chart([{"step": i, "epoch": i, "loss": 1.0} for i in range(20)])
    spike = loss_chart([{"step": i, "epoch": i, "loss": 500.0 if i == 0 else 1.0} for i in range(20)])
    assert "0.0" in words(flat)
    assert "0.0" not in words(spike)
    assert {"1", "10", "100"} <= set(words(spike))


def test_a_long_history_stays_small():
    history = [{"step": i, "epoch": 0, "loss": 1 + i % 7, "lr": 0.1 * (i % 3)} for i in range(100_000)]
    assert len(loss_chart(history)) + len(rate_chart(history)) < 60_000

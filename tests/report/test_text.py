from dataclasses import replace

from tests.report.task_contents import STREET, THINGS, classification_scores, segmentation_scores
from trivet.doctor.finding import Finding, Where
from trivet.evaluate.board import BoardResult
from trivet.evaluate.submissions import Fault
from trivet.report.contents import Choice
from trivet.report.text import board_text, choice_text, finding_text, plain_text, score_text

CELLS = ("RBC", "WBC", "Platelets")


def test_scores_as_text(make_scores):
    text = plain_text(score_text(make_scores(3), CELLS))
    assert "mAP50    0.861  95% interval 0.828 to 0.889" in text
    assert "by size         small 0.214, medium 0.533, large 0.702" in text
    row = next(line for line in text.splitlines() if line.startswith("WBC"))
    assert row.split() == ["WBC", "0.532", "██████████▋", "0.760", "0.608", "0.570", "200"]
    assert "missed           0.052     41" in text


def test_scores_without_interval_errors_or_truth(make_scores):
    scores = make_scores(1)
    bare = replace(
        scores, interval95={}, errors=(), per_class=(replace(scores.per_class[0], ap=float("nan")),)
    )
    text = plain_text(score_text(bare, ["x"]))
    assert "interval" not in text
    assert "mistake" not in text
    assert " -  " in text


def test_text_keeps_to_the_width_and_has_no_control_codes(make_scores):
    for width in (60, 100):
        text = plain_text(score_text(make_scores(80), ["x"] * 80), width=width)
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text


def test_findings_as_text():
    finding = Finding(
        "leak",
        "error",
        "3 images leak",
        Where("val.txt", 17, "val"),
        {"n": 3},
        "Saved twice.",
        "Remove them.",
        None,
        "no-effect-seen",
    )
    assert plain_text(finding_text([finding])).splitlines() == [
        "error 3 images leak",
        "  val.txt:17, val",
        "  Saved twice.",
        "  Do: Remove them.",
        "  leak, no effect seen",
        "",
    ]
    assert plain_text(finding_text([])) == "No findings.\n"


def test_choices_as_text():
    text = plain_text(
        choice_text([Choice("batch", "8", "automatic", "2 GB of 8 GB"), Choice("minutes", "45", "given")])
    )
    assert text.splitlines() == [
        "what     value  by         why",
        "batch    8      automatic  2 GB of 8 GB",
        "minutes  45     given",
    ]


def test_markup_and_escape_codes_in_names_do_nothing(make_scores):
    choices = [Choice("[red]x[/red]", "\x1b[31m", "given")]
    text = plain_text(choice_text(choices))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    hostile = replace(make_scores(1).per_class[0], name="[bold]\x1b[2J")
    text = plain_text(score_text(replace(make_scores(1), per_class=(hostile,)), ["n"]))
    assert "[bold]" in text
    assert "\x1b" not in text


def test_scores_of_a_segmenter_as_text():
    scores = segmentation_scores()
    text = plain_text(score_text(scores, STREET))
    low, high = scores.interval95["miou"]
    assert f"mIoU            {scores.miou:.3f}  95% interval {low:.3f} to {high:.3f}" in text
    assert "tram is neither in the truth nor predicted" in text
    row = next(line for line in text.splitlines() if line.startswith("tram")).split()
    assert row == ["tram", "-", "-", "-", "0.0%"]


def test_scores_of_a_classifier_as_text():
    scores = classification_scores()
    text = plain_text(score_text(scores, THINGS))
    low, high = scores.interval95["balanced_accuracy"]
    assert f"balanced accuracy  {scores.balanced_accuracy:.3f}  95% interval {low:.3f} to {high:.3f}" in text
    assert "top-5" in text
    assert "top-5" not in plain_text(score_text(replace(scores, top5=float("nan")), THINGS))


def test_what_a_board_would_say_as_text():
    faults = (Fault(2, "a.jpg", "3 class ids"), Fault(0, "b.jpg", "has no row"), Fault(0, "", "1 rows"))
    assert plain_text(board_text(BoardResult("mIoU", 0.5, 1, faults))).splitlines() == [
        "mIoU 0.5000 over 1 image",
        "line 2, a.jpg: 3 class ids",
        "b.jpg: has no row",
        "1 rows",
    ]
    assert "and 1 more faults" in plain_text(board_text(BoardResult("mIoU", 0.5, 1, faults), most=2))
    assert "No fault" in plain_text(board_text(BoardResult("mAP50", float("nan"), 0, ())))

import json
import signal

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from tests.train.tiny import StopAfter, TinyLoader, tiny_job, tiny_model, tiny_settings
from trivet.errors import TrainingError
from trivet.train import loop
from trivet.train.loop import Listener, Validation, train


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one, other) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_run_learns_and_keeps_its_history(tmp_path):
    settings = tiny_settings(epochs=30, lr=0.05, backbone_lr=0.05, weight_decay=0.0)
    model = tiny_model()
    state, history = train(model, tiny_job(tmp_path, settings=settings))
    assert state.position.ended == "budget spent"
    assert (state.position.epoch, state.position.step, state.position.images) == (30, 150, 600)
    assert history.rows[-1]["loss"] < 0.7 * history.rows[0]["loss"]
    assert [
        json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()
    ] == history.rows


@pytest.mark.parametrize("killed_after", [1, 5, 7, 12])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, monkeypatch, killed_after):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    whole, broken = tiny_model(), tiny_model()
    first, _ = train(whole, tiny_job(tmp_path / "whole"))
    with pytest.raises(StopAfter.Killed):
        train(broken, tiny_job(tmp_path / "broken", listeners=[StopAfter(killed_after)]))
    resumed = tiny_model(seed=5)
    is_there = (tmp_path / "broken" / "last" / "state.safetensors").is_file()
    assert is_there == (killed_after > 1), "the first checkpoint follows the first step"
    second, history = train(
        resumed if is_there else tiny_model(), tiny_job(tmp_path / "broken"), resume=is_there
    )
    assert_same(weights(whole), weights(second.model))
    assert_same(weights(first.best_model), weights(second.best_model))
    assert [row["step"] for row in history.rows] == [5, 10, 15]


def half_precision_fabric():
    """Half precision on the CPU, its loss scale growing every other step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    return Fabric(
        accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", device="cpu", scaler=scaler)]
    )


def test_the_loss_scale_of_half_precision_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    first, _ = train(tiny_model(), tiny_job(tmp_path / "whole", fabric=half_precision_fabric()))
    with pytest.raises(StopAfter.Killed):
        train(
            tiny_model(),
            tiny_job(tmp_path / "broken", fabric=half_precision_fabric(), listeners=[StopAfter(8)]),
        )
    second, _ = train(
        tiny_model(seed=5), tiny_job(tmp_path / "broken", fabric=half_precision_fabric()), resume=True
    )
    assert first.precision.state_dict()["scale"] > 2.0**10
    assert second.precision.state_dict() == first.precision.state_dict()
    assert_same(weights(first.model), weights(second.model))


def test_a_finished_run_is_not_trained_further(tmp_path):
    train(tiny_model(), tiny_job(tmp_path))
    before = (tmp_path / "last" / "state.safetensors").read_bytes()
    state, history = train(tiny_model(seed=3), tiny_job(tmp_path), resume=True)
    assert state.position.step == 15
    assert len(history.rows) == 3
    assert (tmp_path / "last" / "state.safetensors").read_bytes() == before


class Interrupt(Listener):
    def stepped(self, state, losses) -> None:
        if state.position.step == 7:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_after_the_step_and_the_run_resumes_bit_for_bit(tmp_path):
    whole = tiny_model()
    train(whole, tiny_job(tmp_path / "whole"))
    handler = signal.getsignal(signal.SIGINT)
    state, _ = train(tiny_model(), tiny_job(tmp_path / "broken", listeners=[Interrupt()]))
    assert (state.position.ended, state.position.step) == ("interrupted", 7)
    assert signal.getsignal(signal.SIGINT) is handler
    again, _ = train(tiny_model(seed=9), tiny_job(tmp_path / "broken"), resume=True)
    assert_same(weights(whole), weights(again.model))


def test_accumulation_gives_the_gradient_of_one_large_batch(tmp_path):
    class Joined(TinyLoader):
        """The same images as two batches of the small loader, in one."""

        def make(self, number, step):
            one, two = (TinyLoader().make(number, 2 * step + part) for part in (0, 1))
            return type(one)(
                torch.cat([one.images, two.images]),
                one.targets + two.targets,
                torch.cat([one.image_ids, two.image_ids]),
                one.names + two.names,
                one.placements + two.placements,
            )

    settings = tiny_settings(epochs=1, optimizer="sgd", momentum=0.0, clip_norm=0.0, ema=0.0, warmup=0.0)
    models = tiny_model(norm=False).eval(), tiny_model(norm=False).eval()
    for model in models:
        model.neck[1].p = 0.0
    train(models[0], tiny_job(tmp_path / "one", settings=settings, loader=Joined(3)))
    halves = tiny_settings(**{**vars(settings), "accumulate": 2})
    train(models[1], tiny_job(tmp_path / "two", settings=halves, loader=TinyLoader(6)))
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_the_best_weights_are_kept_and_patience_ends_the_run(tmp_path):
    scores, kept = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.9]), []
    job = tiny_job(
        tmp_path,
        settings=tiny_settings(epochs=6, validations=6, patience=3),
        validate=lambda model: Validation(next(scores), {}),
        keep_best=lambda model: kept.append(weights(model)),
    )
    state, _ = train(tiny_model(), job)
    assert state.position.ended == "no better score in 3 validations"
    assert (state.position.best_score, state.position.best_epoch, state.position.epoch) == (0.5, 2, 5)
    assert len(kept) == 2


def test_validations_are_spread_over_the_budget(tmp_path):
    validated = []

    class Watch(Listener):
        def validating(self, state) -> None:
            validated.append(state.position.epoch)

    train(
        tiny_model(), tiny_job(tmp_path, settings=tiny_settings(epochs=7, validations=3), listeners=[Watch()])
    )
    assert validated == [3, 5, 7]


def test_the_last_epochs_are_plain(tmp_path):
    loader = TinyLoader()
    train(tiny_model(), tiny_job(tmp_path, loader=loader, settings=tiny_settings(epochs=10, plain_share=0.3)))
    assert loader.plain_epochs == [7, 8, 9]


def test_a_budget_in_minutes_ends_in_time(tmp_path):
    settings = tiny_settings(epochs=None, minutes=0.02)
    state, history = train(tiny_model(), tiny_job(tmp_path, settings=settings))
    assert state.position.ended == "budget spent"
    assert state.budget.seconds < 2.5
    assert history.rows[-1]["progress"] == 1


def test_a_loss_that_is_not_finite_names_the_images_and_the_module(tmp_path):
    model = tiny_model()
    model.neck[0].register_forward_hook(
        lambda module, inputs, output: output / 0 if inputs[0].sum() > 0 else None
    )
    with pytest.raises(
        TrainingError, match=r"image-0-0-0\.png.*first module with such an output is neck\.0 \(Conv2d\)"
    ):
        train(model, tiny_job(tmp_path))


def test_a_frozen_backbone_stands_still_with_its_statistics(tmp_path):
    model = tiny_model()
    before = weights(model)
    train(model, tiny_job(tmp_path, settings=tiny_settings(freeze_backbone=1.0)))
    after = weights(model)
    assert_same(
        {n: v for n, v in before.items() if "backbone" in n},
        {n: v for n, v in after.items() if "backbone" in n},
    )
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_backbone_thaws(tmp_path):
    model = tiny_model()
    before = weights(model)
    train(model, tiny_job(tmp_path, settings=tiny_settings(freeze_backbone=0.5)))
    assert not torch.equal(before["backbone.0.weight"], weights(model)["backbone.0.weight"])

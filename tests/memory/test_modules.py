"""Modules with arguments of every form are planned to what the profiler measures."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.memory.measured import measured_peak
from trivet.memory import plan_memory
from trivet.memory.plain_step import own_loss

BATCH, TOKENS, WORDS = 4, 16, 500
AdamW = partial(torch.optim.AdamW, lr=1e-4)


@dataclass
class Answer:
    """What a model of language returns."""

    loss: Tensor
    logits: Tensor


class Encoder(nn.Module):
    """Keyword arguments, an object with its loss; words without a label are left out by a mask."""

    def __init__(self, width=32):
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        layers = (nn.TransformerEncoderLayer(width, 2, 64, batch_first=True) for _ in range(2))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, WORDS)

    def forward(self, *, input_ids, attention_mask, labels):
        states = self.words(input_ids)
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=attention_mask == 0)
        chosen = labels >= 0
        logits = self.head(states[chosen])
        return Answer(nn.functional.cross_entropy(logits, labels[chosen]), logits)


def text(batch):
    ids = torch.arange(batch * TOKENS).view(batch, TOKENS) % WORDS
    places = torch.arange(TOKENS).expand(batch, -1)
    return {
        "input_ids": ids,
        "attention_mask": (places < TOKENS - 3).long(),
        "labels": torch.where(places % 4 == 0, ids, -100),
    }


class Detector(nn.Module):
    """Lists of pictures and of targets, losses example by example, boxes chosen by their scores."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(3, 16)
        self.scores = nn.Linear(16, 1)
        self.boxes = nn.Linear(16, 4)
        self.anchors = [torch.rand(1, 4)]  # tensors that are neither parameters nor buffers

    def forward(self, images, targets):
        maps = self.trunk(torch.stack(images)[:, :, ::2, ::2].flatten(2).transpose(1, 2)).relu()
        losses = {"scores": 0.0, "boxes": 0.0}
        for rows, target in zip(maps, targets, strict=True):
            if (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any():
                raise ValueError("a box is empty")
            scores = self.scores(rows).squeeze(1)
            kept = (scores > scores.median()).nonzero().squeeze(1)
            boxes = self.boxes(rows[kept]) + self.anchors[0]
            distance = (boxes[:, None] - target["boxes"]).abs().sum(-1)
            losses["boxes"] = losses["boxes"] + distance.min(dim=1).values.mean()
            losses["scores"] = losses["scores"] + scores.sigmoid().square().mean()
        return losses


def pictures(batch):
    images = [torch.rand(3, 64, 64) for _ in range(batch)]
    return images, [{"boxes": torch.tensor([[1.0, 2, 9, 8]] * 6)} for _ in range(batch)]


class Views(nn.Module):
    """A mapping of pictures in a mapping, and a flag."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, views, both):
        left = self.trunk(views["left"]).mean((2, 3))
        right = self.trunk(views["more"]["right"]).mean((2, 3)) if both else 0
        return {"loss": (left - right).square().mean(), "left": left}


def views(batch):
    left, right = torch.rand(batch, 3, 40, 40), torch.rand(batch, 3, 20, 20)
    return ({"left": left, "more": {"right": right}}, True)


CASES = {
    "keywords": (Encoder, text, False),
    "keywords, real": (Encoder, text, True),
    "lists": (Detector, pictures, True),
    "mappings": (Views, views, False),
    "mappings, real": (Views, views, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_what_is_measured(case):
    make, batch_of, real = CASES[case]
    module = make()
    plan = plan_memory(module, batch_of(2), None, AdamW, device="cpu", real=real)
    for batch in (BATCH, 3 * BATCH):
        twin = make()
        truth = measured_peak(twin, batch_of(batch), own_loss, AdamW(twin.parameters()))
        assert plan.alive(batch) == pytest.approx(truth, rel=0.02)


def test_masks_of_the_example_select_what_they_select_and_nothing_is_assumed():
    plan = plan_memory(Encoder(), text(2), None, AdamW, device="cpu")
    assert plan.notes == ()


def test_what_depends_on_values_names_its_line_and_what_to_do():
    class Picks(nn.Linear):
        def forward(self, rows):
            return torch.unique_consecutive(super().forward(rows).round()).sum()

    with pytest.raises(ValueError, match=r"unique_consecutive.default, called in .*:\d+ \(.*real=True"):
        plan_memory(Picks(4, 4), torch.zeros(2, 4), None, AdamW, device="cpu")


def test_a_step_that_fails_by_what_was_assumed_says_so():
    class Halves(nn.Linear):
        def forward(self, rows):
            scores = super().forward(rows)
            return (scores[scores > 0] - scores.new_zeros(3)).sum()

    with pytest.raises(
        ValueError, match=r"failed \(.*everything is taken to be selected.*give plan_memory real=True"
    ):
        plan_memory(Halves(4, 4), torch.zeros(2, 4), None, AdamW, device="cpu")


def test_real_steps_leave_the_module_and_the_random_state_alone():
    module, example = Detector().eval(), pictures(2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    plan = plan_memory(module, example, None, AdamW, device="cpu", real=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert "those of the example" in plan.notes[0]


def test_real_steps_want_weights_with_values():
    with torch.device("meta"):
        module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="weight is on the meta device and has no values"):
        plan_memory(module, torch.zeros(2, 2), lambda out: out.mean(), AdamW, real=True)


def test_a_loss_takes_targets_by_name():
    plan = plan_memory(
        nn.Linear(3, 5),
        torch.zeros(1, 3),
        nn.functional.cross_entropy,
        AdamW,
        example_targets={"target": torch.zeros(1, dtype=torch.int64)},
        device="cpu",
    )
    assert plan.alive(1001) > plan.alive(1)


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_real_and_fake_steps_agree(device, precision):
    plans = [
        plan_memory(Views(), views(2), None, AdamW, device=device, precision=precision, real=real)
        for real in (False, True)
    ]
    assert plans[0].total(50) == pytest.approx(plans[1].total(50), rel=1e-3)
    assert plans[0].alive(50) == pytest.approx(plans[1].alive(50), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn"])
def test_torchvisions_detectors_are_planned_within_the_margin(name):
    detection = pytest.importorskip("torchvision.models.detection")
    sides = {} if "320" in name else {"min_size": 128, "max_size": 128}

    def make():
        torch.manual_seed(0)
        return getattr(detection, name)(weights=None, weights_backbone=None, **sides)

    def batch_of(batch):
        target = {
            "boxes": torch.tensor([[10.0, 12, 60, 90], [40, 20, 110, 70]]),
            "labels": torch.tensor([3, 8]),
        }
        return [torch.rand(3, 128, 128) for _ in range(batch)], [target] * batch

    plan = plan_memory(make(), batch_of(2), None, AdamW, device="cpu", real=True)
    module = make()
    truth = measured_peak(module, batch_of(6), own_loss, AdamW(module.parameters()))
    assert plan.alive(6) == pytest.approx(truth, rel=0.05)

"""Planned against measured peak of training modules with arguments of every form on a CPU.

As in `plan_accuracy.py` the truth is the C heap's: `plan_heap.c` is preloaded and counts every byte that malloc and its
relatives hand out, from before the module is made to the end of the third step. The plan is
`plan_memory(..., device="cpu")`, its examples are the first two of those that are measured.

    python benchmarks/plan_modules.py [--modules retinanet ...] [--batches 2 4 8] [--real]
"""

import argparse
import ctypes
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from plan_accuracy import MIB, STEPS, compiled_heap, in_a_process
from torch import Tensor, nn

SIDE, BOXES, CLASSES = 256, 8, 91
TOKENS, VOCABULARY = 256, 8000


def detector(name: str) -> nn.Module:
    from torchvision.models import detection

    sides = {} if name.endswith("320_fpn") else {"min_size": SIDE, "max_size": SIDE}
    return getattr(detection, name)(weights=None, weights_backbone=None, **sides)


def detection_batch(batch: int, *, masks: bool = False) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return images and targets, each example with boxes of its own."""
    images, targets = [], []
    for number in range(batch):
        random = torch.Generator().manual_seed(number)
        images.append(torch.rand(3, SIDE, SIDE, generator=random))
        corner = torch.rand(BOXES, 2, generator=random) * SIDE / 2
        far = corner + 16 + torch.rand(BOXES, 2, generator=random) * (SIDE / 2 - 16)
        labels = torch.randint(1, CLASSES, (BOXES,), generator=random)
        target = {"boxes": torch.cat([corner, far], dim=1), "labels": labels}
        if masks:
            target["masks"] = torch.randint(0, 2, (BOXES, SIDE, SIDE), generator=random, dtype=torch.uint8)
        targets.append(target)
    return images, targets


class Encoder(nn.Module):
    """A masked language model: keyword arguments, an object with its loss, labels of -100 left out."""

    def __init__(self, width: int = 384, layers: int = 6, *, only_labelled: bool = False) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(TOKENS, width)
        layer = partial(nn.TransformerEncoderLayer, width, 4, 4 * width, activation="gelu", batch_first=True)
        self.layers = nn.ModuleList(layer() for _ in range(layers))
        self.head = nn.Linear(width, VOCABULARY)
        self.only_labelled = only_labelled

    def forward(self, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> SimpleNamespace:
        """Return the loss and the scores of words `(batch, tokens, words)`, or `(labelled, words)`."""
        states = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=attention_mask == 0)
        if self.only_labelled:
            states, labels = states[labels >= 0], labels[labels >= 0]
        logits = self.head(states)
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-100)
        return SimpleNamespace(loss=loss, logits=logits)


def text_batch(batch: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (batch, TOKENS), generator=random)
    places = torch.arange(TOKENS).expand(batch, -1)
    return {
        "input_ids": ids,
        "attention_mask": (places < TOKENS - 16).long(),
        "labels": torch.where(places % 7 == 0, ids, -100),
    }


class Experts(nn.Module):
    """Sends each token to the expert it scores highest: how many each gets depends on values the module computes."""

    def __init__(self, width: int = 512, experts: int = 8) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(experts)
        )

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return the loss and `(batch * tokens, width)` from `(batch, tokens, width)`."""
        flat = tokens.flatten(0, 1)
        weight, chosen = self.router(flat).softmax(dim=-1).max(dim=-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            mine = (chosen == number).nonzero().squeeze(1)
            out = out.index_add(0, mine, expert(flat[mine]) * weight[mine, None])
        return {"loss": (out - flat).square().mean(), "tokens": out}


class TwoViews(nn.Module):
    """Takes one mapping of two pictures and a pair of numbers each; returns two losses."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in ((3, 64), (64, 128), (128, 256)):
            blocks += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.trunk = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(256 + 2, 10)

    def forward(self, views: dict[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Return two losses of pictures `(batch, 3, side, side)`, pairs `(batch, 2)` and classes `(batch,)`."""
        left, right = self.trunk(views["left"]), self.trunk(views["right"])
        logits = self.head(torch.cat([left, views["where"]], dim=1))
        return {
            "class": nn.functional.cross_entropy(logits, label),
            "distance": (left - right).square().mean(),
        }


def views_batch(batch: int) -> tuple[dict[str, Tensor], Tensor]:
    views = {name: torch.rand(batch, 3, SIDE, SIDE) for name in ("left", "right")}
    return {**views, "where": torch.rand(batch, 2)}, torch.zeros(batch, dtype=torch.int64)


FAKE, REAL = False, True
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], object], bool]] = {
    "fasterrcnn": (partial(detector, "fasterrcnn_mobilenet_v3_large_320_fpn"), detection_batch, REAL),
    "retinanet": (partial(detector, "retinanet_resnet50_fpn"), detection_batch, REAL),
    "maskrcnn": (partial(detector, "maskrcnn_resnet50_fpn"), partial(detection_batch, masks=True), REAL),
    "encoder": (Encoder, text_batch, FAKE),
    "encoder, labelled tokens": (partial(Encoder, only_labelled=True), text_batch, FAKE),
    "experts": (Experts, lambda batch: (torch.rand(batch, 1024, 512),), REAL),
    "two views": (TwoViews, views_batch, FAKE),
}


def made(name: str, batch: int) -> tuple[nn.Module, object]:
    torch.manual_seed(0)
    make, batch_of, _ = CASES[name]
    return make(), batch_of(batch)


def planned(name: str, batches: list[int], *, real: bool) -> list[float]:
    """Return the planned heap at each batch, and the seconds that planning took; run in a process of its own."""
    from trivet.memory.plan import CPU_CONTEXT, plan_memory

    module, example = made(name, 2)
    begin = time.perf_counter()
    plan = plan_memory(module, example, None, partial(torch.optim.AdamW, lr=1e-4), device="cpu", real=real)
    seconds = time.perf_counter() - begin
    return [*((plan.alive(batch) + CPU_CONTEXT) / MIB for batch in batches), seconds]


def measured(name: str, batch: int) -> list[float]:
    """Return the peak of the heap; run in a process of its own, with the counting heap preloaded."""
    heap = ctypes.CDLL(os.environ["LD_PRELOAD"])
    heap.heap_now.restype = heap.heap_peak.restype = ctypes.c_long
    import torchvision  # noqa: F401

    from trivet.memory.plain_step import own_loss

    gc.collect()
    before = heap.heap_now()
    module, example = made(name, batch)
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    for number in range(STEPS):
        if number == STEPS - 1:
            heap.heap_reset()
        output = module(**example) if isinstance(example, dict) else module(*example)
        loss = own_loss(output)
        del output
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return [(heap.heap_peak() - before) / MIB]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", nargs="+", default=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--real", action="store_true", help="plan all on real tensors")
    parser.add_argument("--measure")
    parser.add_argument("--plan")
    given = parser.parse_args()
    if given.measure or given.plan:
        case = json.loads(given.measure or given.plan)
        print(json.dumps(measured(*case) if given.measure else planned(*case[:2], real=case[2])))
        return
    with tempfile.TemporaryDirectory() as folder:
        library = compiled_heap(Path(folder))
        print("| module | tensors | planning | batch | measured MiB | planned MiB | error |")
        print("|---|---|---|---|---|---|---|")
        for name in given.modules:
            real = given.real or CASES[name][-1]
            *plans, seconds = in_a_process(__file__, None, "--plan", name, given.batches, real)
            for batch, plan in zip(given.batches, plans, strict=True):
                (truth,) = in_a_process(__file__, library, "--measure", name, batch)
                row = f"| {name} | {'real' if real else 'fake'} | {seconds:.1f} s | {batch} | {truth:.0f} | {plan:.0f} |"
                print(f"{row} {plan / truth - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()

"""Planned against measured peak of a training step on a CPU.

The truth is the C heap's: `plan_heap.c` is preloaded and counts every byte that malloc and its relatives hand out, from
before the model is made to the end of the third step. The plan is `plan_memory(..., device="cpu")`.

    python benchmarks/plan_accuracy.py [--models resnet50:128 ...] [--batches 2 4 8] [--precisions 32 bf16]
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

MODELS = ("resnet50:160", "efficientdet_d0:160", "efficientdet_d4:128", "deconvnet_vgg16_bn:128")
MIB = 1 << 20
STEPS = 3


def make(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet50":
        import torchvision

        return torchvision.models.resnet50()
    from trivet.models.build import build_model

    return build_model(name, classes=20, size_hw=(size, size))


def loss_of(output: object) -> Tensor:
    total = torch.zeros(())
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            total = total + leaf.float().square().mean()
    return total


def channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)


def planned(name: str, size: int, batches: list[int], precision: str) -> dict[int, float]:
    from trivet.memory.plan import CPU_CONTEXT, plan_memory

    module = channels_last(make(name, size))
    images = torch.empty(2, 3, size, size).to(memory_format=torch.channels_last)
    plan = plan_memory(
        module, images, loss_of, partial(torch.optim.AdamW, lr=1e-4), device="cpu", precision=precision
    )
    return {batch: (plan.alive(batch) + CPU_CONTEXT) / MIB for batch in batches}


def measured(name: str, size: int, batch: int, precision: str) -> float:
    """Run in a process of its own, with the counting heap preloaded."""
    heap = ctypes.CDLL(os.environ["LD_PRELOAD"])
    heap.heap_now.restype = heap.heap_peak.restype = ctypes.c_long
    import torchvision  # noqa: F401

    from trivet.models.build import build_model  # noqa: F401

    gc.collect()
    before = heap.heap_now()
    module = channels_last(make(name, size)).train()
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    for number in range(STEPS):
        if number == STEPS - 1:
            heap.heap_reset()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = module(images)
        loss = loss_of(output)
        del output
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return (heap.heap_peak() - before) / MIB


def in_a_process(library: Path, *case: object) -> float:
    words = [sys.executable, __file__, "--measure", json.dumps(case)]
    done = subprocess.run(
        words, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--precisions", nargs="+", default=["32", "bf16"])
    parser.add_argument("--measure")
    given = parser.parse_args()
    if given.measure:
        print(measured(*json.loads(given.measure)))
        return
    print(
        "| model | size | precision | batch | measured MiB | planned MiB | error |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "heap.so"
        source = Path(__file__).with_name("plan_heap.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        for model in given.models:
            name, size = model.split(":")
            for precision in given.precisions:
                plans = planned(name, int(size), given.batches, precision)
                for batch in given.batches:
                    truth = in_a_process(library, name, int(size), batch, precision)
                    error = plans[batch] / truth - 1
                    row = f"| {name} | {size} | {precision} | {batch} | {truth:.0f} | {plans[batch]:.0f} |"
                    print(f"{row} {error:+.1%} |", flush=True)


if __name__ == "__main__":
    main()

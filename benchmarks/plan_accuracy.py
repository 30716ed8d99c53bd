"""Planned against measured peak of a training step on a CPU.

The truth is the C heap's: `plan_heap.c` is preloaded and counts every byte that malloc and its relatives hand out, from
before the model is made to the end of the third step. The plan is `plan_memory(..., device="cpu")`.

With `--fit` it is the step that `fit` takes, by the compiled kernels and a fused optimizer, with the freed memory kept: its
heap, and the process's resident peak, of which the program's own part is taken as measured.

    python benchmarks/plan_accuracy.py [--models resnet50:128 ...] [--batches 2 4 8] [--precisions 32 bf16]
    python benchmarks/plan_accuracy.py --fit [--models efficientdet_lite0:320 ...] [--batches 4]
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
FIT_MODELS = (
    "tf_efficientdet_d0:256",
    "tf_efficientdet_d0:512",
    "efficientdet_lite0:320",
    "semantic_bifpn_lite0:320",
)
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


def planned_fit(name: str, size: int, batch: int) -> tuple[float, float]:
    """Return what the heap and what the heap with its gaps is planned to take."""
    from trivet.memory.plan import CPU_CONTEXT, CPU_PROGRAM
    from trivet.recipe.plan import recipe_for
    from trivet.recipe.planned_step import plan_recipe

    plan = plan_recipe(recipe_for(name, model__size_hw=(size, size)), classes=20, device="cpu")
    return (plan.alive(batch) + CPU_CONTEXT) / MIB, (plan.total(batch) - CPU_PROGRAM) / MIB


def measured_fit(name: str, size: int, batch: int) -> tuple[float, float, float]:
    """Return the peak of the heap, the program's resident memory and the resident peak; run in a process of its own."""
    heap = ctypes.CDLL(os.environ["LD_PRELOAD"])
    heap.heap_now.restype = heap.heap_peak.restype = ctypes.c_long
    from lightning_fabric import Fabric

    from trivet.recipe.plan import recipe_for
    from trivet.recipe.planned_step import PlannedStep
    from trivet.recipe.run import model_of
    from trivet.train.allocator import keep_freed_memory

    keep_freed_memory()
    recipe = recipe_for(name, model__size_hw=(size, size), train__batch=batch)
    gc.collect()
    before, program = heap.heap_now(), resident("VmRSS:")
    model = model_of(recipe, classes=20)
    step = PlannedStep(recipe, model, batch, "cpu", 100, fabric=Fabric(accelerator="cpu", devices=1))
    for _ in range(STEPS):
        step.run()
    return (heap.heap_peak() - before) / MIB, program, resident("VmHWM:")


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def compiled_heap(folder: Path) -> Path:
    """Return the library that counts the heap, compiled."""
    library = folder / "heap.so"
    source = Path(__file__).with_name("plan_heap.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def in_a_process(program: str, library: Path | None, kind: str, *case: object) -> list[float]:
    """Return what a program prints for a case, the library preloaded if there is one."""
    preload = {} if library is None else {"LD_PRELOAD": str(library)}
    words = [sys.executable, program, kind, json.dumps(case)]
    done = subprocess.run(words, env={**os.environ, **preload}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare_fits(library: Path, models: list[str], batches: list[int]) -> None:
    print("| model | size | batch | heap | planned | error | resident | planned | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in models:
        name, size = model.split(":")
        for batch in batches:
            heap, program, peak = in_a_process(__file__, library, "--measure-fit", name, int(size), batch)
            own, grown = planned_fit(name, int(size), batch)
            row = f"| {name} | {size} | {batch} | {heap:.0f} | {own:.0f} | {own / heap - 1:+.1%} "
            print(
                f"{row}| {peak:.0f} | {program + grown:.0f} | {(program + grown) / peak - 1:+.1%} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--precisions", nargs="+", default=["32", "bf16"])
    parser.add_argument("--measure")
    parser.add_argument("--measure-fit")
    given = parser.parse_args()
    if given.measure or given.measure_fit:
        case = json.loads(given.measure or given.measure_fit)
        print(json.dumps([measured(*case)] if given.measure else measured_fit(*case)))
        return
    batches = given.batches or ([4] if given.fit else [2, 4, 8])
    with tempfile.TemporaryDirectory() as folder:
        library = compiled_heap(Path(folder))
        if given.fit:
            compare_fits(library, given.models or list(FIT_MODELS), batches)
            return
        print("| model | size | precision | batch | measured MiB | planned MiB | error |")
        print("|---|---|---|---|---|---|---|")
        for model in given.models or MODELS:
            name, size = model.split(":")
            for precision in given.precisions:
                plans = planned(name, int(size), batches, precision)
                for batch in batches:
                    (truth,) = in_a_process(__file__, library, "--measure", name, int(size), batch, precision)
                    error = plans[batch] / truth - 1
                    row = f"| {name} | {size} | {precision} | {batch} | {truth:.0f} | {plans[batch]:.0f} |"
                    print(f"{row} {error:+.1%} |", flush=True)


if __name__ == "__main__":
    main()

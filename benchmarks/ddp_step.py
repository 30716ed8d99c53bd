"""The efficiency of a training step of two CPU processes against one: seconds a step, the same batch on each process.

    OMP_NUM_THREADS=1 python benchmarks/ddp_step.py [--processes 2] [--rounds 5] [--model tf_efficientdet_lite0]

Each process has one thread and a batch of its own, so a perfect pair takes as long as one process for twice the images.
Efficiency = seconds of one process / seconds of the slowest of several. Printed too are a process' processor seconds a
step, which other work on the machine changes little (they show what the exchange of gradients costs, not how long processes
wait for each other), and the peak of its memory. Results with date and machine are kept in
`ddp_step.md`. That several processes learn what one does, uneven last batches included, is tested in
`tests/train` and `tests/data/test_order.py`: every process gets the same number of batches.
"""

import argparse
import resource
import statistics
import time
from functools import partial

import torch
from lightning_fabric import Fabric
from training_step import CLASSES, make_batch

from trivet.models.build import build_model
from trivet.models.kernels import use_fast_kernels
from trivet.tasks.detection import DetectionTask
from trivet.train.allocator import keep_freed_memory
from trivet.train.optimizers import build_optimizer
from trivet.train.processes import part
from trivet.train.settings import TrainSettings
from trivet.train.step import take_step

WARM_UP = 2


def steps(fabric: Fabric, *, name: str, size: int, images: int, rounds: int) -> tuple[float, float, float]:
    """Median seconds and processor seconds of a step and peak memory in GiB, of the slowest and largest process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    model = build_model(name, classes=CLASSES).train()
    use_fast_kernels(model)
    model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, TrainSettings(epochs=1, lr=1e-6, backbone_lr=1e-6), fused=True)
    task = DetectionTask(CLASSES, model.anchor_spec)
    batch = make_batch(size, images)
    network, wrapped = fabric.setup(model, optimizer)
    taken = []
    for number in range(rounds + WARM_UP):
        fabric.barrier()
        begun, used = time.perf_counter(), time.process_time()
        take_step(fabric, network, task, [batch], wrapped, clip_norm=10.0)
        seconds = torch.tensor([time.perf_counter() - begun, time.process_time() - used])
        if number >= WARM_UP:
            taken.append(fabric.all_gather(seconds).reshape(-1, 2).amax(dim=0).tolist())
    peak = torch.tensor(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    by_clock, by_core = (statistics.median(values) for values in zip(*taken, strict=True))
    largest = float(fabric.all_gather(peak).max())
    part(fabric)
    return by_clock, by_core, largest


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--model", default="tf_efficientdet_lite0")
    options.add_argument("--size", type=int, default=320)
    options.add_argument("--batch", type=int, default=8, help="images a process")
    given = options.parse_args()
    work = partial(steps, name=given.model, size=given.size, images=given.batch, rounds=given.rounds)
    print(f"{given.model} at {given.size}, batch {given.batch} a process, 1 thread a process")
    alone = work(Fabric(accelerator="cpu", devices=1))
    report("1 process", alone, given.batch)
    fabric = Fabric(accelerator="cpu", devices=given.processes, strategy="ddp_spawn")
    together = fabric.launch(work)
    report(f"{given.processes} processes", together, given.processes * given.batch)
    print(f"  efficiency {alone[0] / together[0]:.0%}, by processor time {alone[1] / together[1]:.0%}")


def report(label: str, found: tuple[float, float, float], images: int) -> None:
    by_clock, by_core, peak = found
    print(
        f"  {label:12s} {by_clock:.3f} s a step, {images / by_clock:.1f} images/s; "
        f"{by_core:.3f} s of processor time and {peak:.2f} GiB a process",
        flush=True,
    )


if __name__ == "__main__":
    main()

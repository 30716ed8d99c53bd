"""Seconds of one training step beside effdet: the same model, weights, size, batch and number of threads.

    python benchmarks/training_step.py [--rounds 5] [--threads 2] [--processor-time]

A step is all that repeats: normalising the uint8 batch, forward, targets, losses, backward, clipping, AdamW. Each
side has a process of its own, so that no side's waiting threads disturb another and its peak memory is its own; they take
turns, so that the machine's drift hits all alike; the first two rounds warm up and are not counted. effdet runs as its own
training script would run it on a CPU (contiguous float32), once more in the channels-last layout, which its script does not
set, and both again with freed memory kept in the process, as `trivet fit` keeps it and effdet's script does not. The honest
ratio is that of the first row; made equal in layout and allocator, that of the fourth. `trivet, no kernels` is the same by
PyTorch's own operators. `--processor-time` counts the process' processor time instead of seconds, for a machine that is not
quiet (with --threads 1: threads that wait spin).
Results with date and machine are kept in `training_step.md`.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import effdet
import numpy as np
import torch
from lightning_fabric import Fabric

from trivet.models.build import build_model
from trivet.models.kernels import kernels_status, use_fast_kernels
from trivet.models.weights import load_weights
from trivet.structures import Batch, BoxTarget, Placement
from trivet.tasks.detection import DetectionTask
from trivet.train.allocator import keep_freed_memory
from trivet.train.optimizers import build_optimizer
from trivet.train.settings import TrainSettings
from trivet.train.step import take_step

CASES = (("tf_efficientdet_d0", 512, 4), ("tf_efficientdet_lite0", 320, 8))
CLASSES, OBJECTS, WARM_UP = 20, 12, 2
SIDES = {  # whose it is, and whether freed memory is kept in the process
    "effdet, as its script runs": ("effdet", False),
    "effdet, channels last": ("effdet", False),
    "effdet, freed memory kept": ("effdet", True),
    "effdet, channels last and memory kept": ("effdet", True),
    "trivet, no kernels, memory kept": ("trivet", True),
    "trivet, as fit runs": ("trivet", True),
}


def make_batch(size: int, images: int) -> Batch:
    draw = np.random.default_rng(0)
    targets = []
    for _ in range(images):
        corner, side = draw.uniform(0, size * 0.7, (OBJECTS, 2)), draw.uniform(12, size * 0.3, (OBJECTS, 2))
        boxes = torch.from_numpy(np.concatenate([corner, corner + side], axis=1)).float()
        targets.append(BoxTarget(boxes, torch.from_numpy(draw.integers(0, CLASSES, OBJECTS))))
    pixels = torch.from_numpy(draw.integers(0, 256, (images, size, size, 3), dtype=np.uint8)).permute(
        0, 3, 1, 2
    )
    ids = torch.arange(images)
    return Batch(pixels, tuple(targets), ids, tuple(map(str, ids)), (Placement((size, size)),) * images)


def effdet_step(name: str, batch: Batch, state: dict, *, channels_last: bool) -> Callable[[], None]:
    config = effdet.get_efficientdet_config(name)
    config.image_size, config.num_classes = tuple(batch.images.shape[2:]), CLASSES
    net = effdet.EfficientDet(config, pretrained_backbone=False)
    net.load_state_dict(state)
    bench = effdet.DetBenchTrain(net, create_labeler=True).train()
    if channels_last:
        bench = bench.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(bench.parameters(), lr=1e-6)
    mean, std = (
        (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (config.mean, config.std))
        if "mean" in config
        else (
            torch.full((1, 3, 1, 1), 127.5),
            torch.full((1, 3, 1, 1), 127.5),
        )
    )
    pixels = batch.images if channels_last else batch.images.contiguous()
    truth = {
        "bbox": torch.stack([target.boxes_xyxy[:, [1, 0, 3, 2]] for target in batch.targets]),
        "cls": torch.stack([target.labels + 1 for target in batch.targets]).float(),
    }

    def step() -> None:
        loss = bench(pixels.float().sub_(mean).div_(std), truth)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bench.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def trivet_step(name: str, batch: Batch, state: dict, *, kernels: bool) -> Callable[[], None]:
    model = build_model(name, classes=CLASSES).train()
    load_weights(model, state)
    if kernels:
        use_fast_kernels(model)
    model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, TrainSettings(epochs=1, lr=1e-6, backbone_lr=1e-6), fused=True)
    task = DetectionTask(CLASSES, model.anchor_spec)
    fabric = Fabric(accelerator="cpu", devices=1)
    network, wrapped = fabric.setup(model, optimizer)
    return lambda: take_step(fabric, network, task, [batch], wrapped, clip_norm=10.0)


class Worker:
    """A process of one side that takes a step when asked, and waits in between."""

    def __init__(self, case: int, side: str, given: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--work", str(case), side, "--threads", str(given.threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self) -> tuple[float, float, float]:
        """Return seconds, processor seconds, and the peak memory of the process so far in GiB."""
        assert self.process.stdin is not None, "it was opened as a pipe"
        assert self.process.stdout is not None, "it was opened as a pipe"
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, busy, peak = map(float, self.process.stdout.readline().split())
        return seconds, busy, peak


def work(case: int, side: str) -> None:
    """Be such a process."""
    name, size, images = CASES[case]
    torch.manual_seed(0)
    batch = make_batch(size, images)
    config = effdet.get_efficientdet_config(name)
    config.num_classes = CLASSES
    state = effdet.EfficientDet(config, pretrained_backbone=False).state_dict()
    kind, kept = SIDES[side]
    if kept:
        keep_freed_memory()
    if kind == "effdet":
        step = effdet_step(name, batch, state, channels_last="channels last" in side)
    else:
        step = trivet_step(name, batch, state, kernels="no kernels" not in side)
    for _ in sys.stdin:
        begun, used = time.perf_counter(), time.process_time()
        step()
        seconds, busy = time.perf_counter() - begun, time.process_time() - used
        print(seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, flush=True)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--processor-time", action="store_true")
    options.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.work:
        work(int(given.work[0]), given.work[1])
        return
    print(kernels_status())
    for case, (name, size, images) in enumerate(CASES):
        print(f"{name} at {size}, batch {images}, {given.threads} threads", flush=True)
        workers = {side: Worker(case, side, given) for side in SIDES}
        taken: dict[str, list[tuple[float, float, float]]] = {side: [] for side in SIDES}
        for number in range(given.rounds + WARM_UP):
            for side, worker in workers.items():
                found = worker.step()
                if number >= WARM_UP:
                    taken[side].append(found)
        for worker in workers.values():
            worker.process.communicate()
        report(
            {side: [row[int(given.processor_time)] for row in rows] for side, rows in taken.items()}, taken
        )


def report(seconds: dict[str, list[float]], taken: dict[str, list[tuple[float, float, float]]]) -> None:
    ours = statistics.median(seconds["trivet, as fit runs"])
    for side, values in seconds.items():
        median = statistics.median(values)
        print(
            f"  {side:38} median {median:6.3f} s  ({min(values):.3f}-{max(values):.3f})  "
            f"{median / ours:5.2f} x trivet's fit  peak {taken[side][-1][2]:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()

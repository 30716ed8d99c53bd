"""Seconds of one training step beside effdet: the same model, weights, size, batch and number of threads.

    python benchmarks/training_step.py [--rounds 5] [--threads 2] [--processor-time]

A step is all that repeats: normalising the uint8 batch, forward, targets, losses, backward, clipping, AdamW. Both sides
step in turn in one process, so that the machine's drift hits both alike; the first two rounds warm up and are not
counted. effdet runs as its own training script would run it on a CPU (contiguous float32), and once more in the
channels-last layout, which its script does not set; then both again with freed memory kept in the process, as `trivet
fit` keeps it and effdet's script does not: the honest ratios are those of the first row of the first half and of the
last row, and, made equal, of the second row of the second half. `trivet` runs as `trivet fit` runs it, with the compiled
kernels; `trivet, no kernels` is the same by PyTorch's own operators. `--processor-time` counts the process' processor
time instead of seconds, for a machine that is not quiet (with --threads 1: threads that wait spin).
Results with date and machine are kept in `training_step.md`.
"""

import argparse
import resource
import statistics
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


def timed(step: Callable[[], None], clock: Callable[[], float]) -> float:
    begun = clock()
    step()
    return clock() - begun


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--processor-time", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.processor_time else time.perf_counter
    begun = time.perf_counter()
    print(
        f"{kernels_status()} Ready in {time.perf_counter() - begun:.1f} s (compiled when not in the cache)."
    )
    for name, size, images in CASES:
        torch.manual_seed(0)
        batch = make_batch(size, images)
        config = effdet.get_efficientdet_config(name)
        config.num_classes = CLASSES
        state = effdet.EfficientDet(config, pretrained_backbone=False).state_dict()
        sides = {
            "effdet": effdet_step(name, batch, state, channels_last=False),
            "effdet, channels last": effdet_step(name, batch, state, channels_last=True),
            "trivet, no kernels": trivet_step(name, batch, state, kernels=False),
            "trivet": trivet_step(name, batch, state, kernels=True),
        }
        print(f"{name} at {size}, batch {images}, {given.threads} threads", flush=True)
        for allocator in ("as the process starts", "keeping freed memory"):
            if allocator == "keeping freed memory":
                keep_freed_memory()
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(given.rounds + WARM_UP):
                for side, step in sides.items():
                    taken = timed(step, clock)
                    if number >= WARM_UP:
                        seconds[side].append(taken)
            report(allocator, seconds)


def report(allocator: str, seconds: dict[str, list[float]]) -> None:
    ours = statistics.median(seconds["trivet"])
    for side, values in seconds.items():
        median = statistics.median(values)
        print(
            f"  {allocator:24} {side:22} median {median:6.3f} s  ({min(values):.3f}-{max(values):.3f})  "
            f"{median / ours:5.2f} x trivet",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  peak memory of the process so far {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()

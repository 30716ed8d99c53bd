"""Seconds of one training step and of one predicted image beside segmentation-models-pytorch, on one backbone.

    python benchmarks/segmentation_step.py [--rounds 5] [--threads 2]

Needs `segmentation-models-pytorch` beside Trivet. All sides have EfficientNet-Lite0 as backbone, the same size, batch
and number of threads, and step in turn in one process, so that the machine's drift hits all alike; the first round warms
up and is not counted. A step is normalising the uint8 batch, forward, cross-entropy, backward, AdamW. The peer's
networks run as its examples run them (contiguous float32) and in the channels-last layout, which they do not set;
`trivet` runs as `trivet fit` does, with the compiled kernels and with freed memory kept (which the peer gets too, as the
process has one allocator). A prediction is one image to its labels at full size. Decoders differ in size: parameters are
printed. Wall-clock seconds and processor seconds: on a busy machine only the latter say something.
Results with date and machine are kept in `segmentation_step.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

from trivet.models.build import build_model
from trivet.models.kernels import kernels_status, use_fast_kernels
from trivet.structures import Batch, MaskTargets, Placement
from trivet.tasks.segmentation import SegmentationTask
from trivet.train.allocator import keep_freed_memory
from trivet.train.optimizers import build_optimizer
from trivet.train.settings import TrainSettings
from trivet.train.step import take_step

SIZE_HW, IMAGES, CLASSES = (256, 320), 8, 11
BACKBONE = "tu-tf_efficientnet_lite0"
Pair = tuple[Callable[[], object], Callable[[], object]]


def make_batch() -> Batch:
    draw = np.random.default_rng(0)
    pixels = torch.from_numpy(draw.integers(0, 256, (IMAGES, *SIZE_HW, 3), dtype=np.uint8))
    masks = torch.from_numpy(draw.integers(0, CLASSES, (IMAGES, *SIZE_HW), dtype=np.uint8))
    names = tuple(str(number) for number in range(IMAGES))
    placements = (Placement(SIZE_HW),) * IMAGES
    return Batch(pixels.permute(0, 3, 1, 2), MaskTargets(masks), torch.arange(IMAGES), names, placements)


def peer(network: nn.Module, batch: Batch, *, channels_last: bool) -> Pair:
    network.train()
    if channels_last:
        network.to(memory_format=torch.channels_last)
    pixels = batch.images if channels_last else batch.images.contiguous()
    assert isinstance(batch.targets, MaskTargets), "a batch of masks"
    masks = batch.targets.masks.long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)

    def normalised(images: torch.Tensor) -> torch.Tensor:
        return images.float().sub_(127.5).div_(127.5)

    def step() -> None:
        F.cross_entropy(network(normalised(pixels)), masks).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def predict() -> torch.Tensor:
        return network(normalised(pixels[:1])).argmax(dim=1)

    return _switched(network, step, predict)


def ours(name: str, batch: Batch) -> tuple[nn.Module, Pair]:
    model = build_model(name, classes=CLASSES, size_hw=SIZE_HW, pretrained=False).train()
    use_fast_kernels(model)
    model.to(memory_format=torch.channels_last)
    settings = TrainSettings(epochs=1, lr=1e-6, backbone_lr=1e-6)
    task = SegmentationTask(CLASSES, loss="cross_entropy")
    fabric = Fabric(accelerator="cpu", devices=1)
    network, optimizer = fabric.setup(model, build_optimizer(model, settings))

    def step() -> None:
        take_step(fabric, network, task, [batch], optimizer, clip_norm=0.0)

    @torch.inference_mode()
    def predict() -> object:
        output = model(model.normalise(batch.images[:1]))
        return task.predict(output, SIZE_HW, placements=batch.placements[:1])[0].labels

    return model, _switched(model, step, predict)


def _switched(network: nn.Module, step: Callable[[], object], predict: Callable[[], object]) -> Pair:
    """Put the network into the mode that each of the two is for; that is not timed."""

    def trained() -> object:
        network.train()
        return step

    def evaluated() -> object:
        network.eval()
        return predict

    return trained, evaluated


def timed(prepare: Callable[[], object]) -> tuple[float, float]:
    run = prepare()
    assert callable(run), "what `_switched` returns"
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    batch = make_batch()
    sides: dict[str, tuple[nn.Module, Pair]] = {}
    for decoder in (smp.Unet, smp.FPN):
        for channels_last in (False, True):
            network = decoder(BACKBONE, encoder_weights=None, classes=CLASSES)
            layout = ", channels last" if channels_last else ""
            sides[f"smp {decoder.__name__}{layout}"] = (
                network,
                peer(network, batch, channels_last=channels_last),
            )
    for name in ("semantic_fpn_lite0", "semantic_bifpn_lite0"):
        sides[f"trivet {name}"] = ours(name, batch)
    print(f"torch {torch.__version__}, smp {smp.__version__}, {given.threads} threads. {kernels_status()}")
    print(f"{SIZE_HW[0]} x {SIZE_HW[1]}, batch {IMAGES}, {CLASSES} classes, backbone tf_efficientnet_lite0")
    taken: dict[str, list[list[tuple[float, float]]]] = {name: [[], []] for name in sides}
    for number in range(given.rounds + 1):
        for name, (_, pair) in sides.items():
            for times, prepare in zip(taken[name], pair, strict=True):
                found = timed(prepare)
                if number:
                    times.append(found)
    print("| | parameters | step, s | step, processor s | image, s | image, processor s |")
    for name, (network, _) in sides.items():
        figures = [statistics.median(values) for times in taken[name] for values in zip(*times, strict=True)]
        count = sum(parameter.numel() for parameter in network.parameters())
        print(f"| {name} | {count:,} | " + " | ".join(f"{value:.3f}" for value in figures) + " |")


if __name__ == "__main__":
    main()

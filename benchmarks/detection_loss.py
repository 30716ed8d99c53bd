"""Time of assignment and loss, forward and backward, beside effdet's on the same outputs and truth.

Run by hand: `python benchmarks/detection_loss.py [rounds]`. Both take turns, so that whatever else the machine
does hits both; processor time of one thread, medians with the least and the most.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch

from trivet.geometry.anchors import AnchorSpec, level_sizes_hw
from trivet.structures import AnchorOutput, Batch, BoxTarget, Placement
from trivet.tasks.detection import DetectionTask

CASES = [((512, 512), 90, 4), ((512, 512), 3, 4), ((320, 320), 3, 8)]


def make_case(size: tuple[int, int], classes: int, images: int) -> tuple[AnchorOutput, Batch]:
    torch.manual_seed(0)
    sizes = level_sizes_hw(AnchorSpec(), size)
    logits = tuple((torch.randn(images, 9 * classes, h, w) * 0.5 - 4.6).requires_grad_() for h, w in sizes)
    deltas = tuple((torch.randn(images, 36, h, w) * 0.3).requires_grad_() for h, w in sizes)
    targets = []
    for _ in range(images):
        corner = torch.rand(10, 2) * size[0] * 0.7
        boxes = torch.cat([corner, corner + 8 + torch.rand(10, 2) * size[0] * 0.3], dim=1)
        targets.append(BoxTarget(boxes, torch.randint(0, classes, (10,))))
    names = tuple(str(i) for i in range(images))
    pixels = torch.zeros(images, 3, *size, dtype=torch.uint8)
    placements = tuple(Placement(size) for _ in range(images))
    return AnchorOutput(logits, deltas), Batch(
        pixels, tuple(targets), torch.arange(images), names, placements
    )


def effdet_step(
    output: AnchorOutput, batch: Batch, size: tuple[int, int], classes: int
) -> Callable[[], float]:
    from effdet.anchors import AnchorLabeler, Anchors
    from effdet.loss import loss_fn

    spec = AnchorSpec()
    anchors = Anchors(3, 7, 3, list(spec.ratios), 4.0, size)
    labeler = AnchorLabeler(anchors, classes)

    def step() -> float:
        targets = labeler.batch_label_anchors(
            [t.boxes_xyxy[:, [1, 0, 3, 2]] for t in batch.targets], [t.labels + 1 for t in batch.targets]
        )
        maps = list(output.class_logits), list(output.box_deltas)
        loss, _, _ = loss_fn(*maps, *targets, classes, 0.25, 1.5, 0.1, 50.0)
        loss.backward()
        return float(loss)

    return step


def trivet_step(output: AnchorOutput, batch: Batch, classes: int) -> Callable[[], float]:
    task = DetectionTask(classes, AnchorSpec())

    def step() -> float:
        loss = task.losses(output, batch)["loss"]
        loss.backward()
        return float(loss)

    return step


def main(rounds: int) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds")
    for size, classes, images in CASES:
        output, batch = make_case(size, classes, images)
        steps = {
            "trivet": trivet_step(output, batch, classes),
            "effdet": effdet_step(output, batch, size, classes),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(rounds + 1):
            for name, step in steps.items():
                for maps in output.class_logits + output.box_deltas:
                    maps.grad = None
                start = time.process_time()
                step()
                if turn:  # the first warms up
                    times[name].append((time.process_time() - start) * 1e3)
        median = {name: statistics.median(values) for name, values in times.items()}
        print(f"{size[0]} x {size[1]}, {classes} classes, batch {images}, 10 objects an image")
        for name, values in times.items():
            print(f"  {name}: {median[name]:8.1f} ms ({min(values):.1f} to {max(values):.1f})")
        print(f"  ratio  {median['effdet'] / median['trivet']:.1f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)

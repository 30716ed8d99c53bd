import numpy as np
import pytest
import torch
from onnx import TensorProto

from tests.export.sessions import session_of
from trivet.data.letterbox import letterbox
from trivet.errors import UsageError
from trivet.export.box_nodes import add_candidates, add_suppression, check_suppression
from trivet.export.compare_boxes import compare_boxes
from trivet.geometry.anchors import AnchorSpec, level_sizes_hw
from trivet.geometry.pixel_anchors import PixelAnchors
from trivet.structures import AnchorOutput, Detections, Sample
from trivet.tasks.box_task import BoxTask
from trivet.tasks.decode import with_objectness
from trivet.tasks.detection import DetectionTask
from trivet.tasks.suppression import HardNms
from trivet.tasks.yolo import YoloTask

SIZE_HW = (64, 96)
ANCHORS = AnchorSpec(3, 5, 2, ((1.0, 1.0), (1.4, 0.7)), 3.0)
PIXELS = PixelAnchors(3, tuple(((w, 20), (30, w)) for w in (12, 25, 60)), (1.2, 1.1, 1.05))
SIZES = level_sizes_hw(ANCHORS, SIZE_HW)
NAMES = ("boxes", "scores", "labels", "counts")


def session_for(task: BoxTask):
    channels = {"class": task.anchors.per_cell * task.classes, "box": task.anchors.per_cell * 4}
    maps = {
        f"{kind}{level}": ("b", count, *size)
        for kind, count in channels.items()
        for level, size in enumerate(SIZES)
    }
    levels = range(len(SIZES))

    def add(graph, placed):
        found = add_candidates(
            graph,
            [f"class{level}" for level in levels],
            [f"box{level}" for level in levels],
            placed,
            task,
            size_hw=SIZE_HW,
            feature_hw=SIZES,
        )
        add_suppression(graph, found, placed, task, NAMES)

    outputs = dict(
        zip(
            NAMES,
            ((TensorProto.FLOAT, 3), (TensorProto.FLOAT, 2), (TensorProto.INT64, 2), (TensorProto.INT64, 1)),
            strict=True,
        )
    )
    return session_of(add, size_hw=SIZE_HW, maps=maps, outputs=outputs)


def random_output(task: BoxTask, *, images: int, mean: float) -> AnchorOutput:
    draw = torch.Generator().manual_seed(images)

    def maps(channels: int, shift: float, spread: float) -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(images, channels, *size, generator=draw) * spread + shift for size in SIZES)

    slots = task.anchors.per_cell
    objectness = maps(slots, mean / 2, 2.0) if task.has_objectness else ()
    return AnchorOutput(maps(slots * task.classes, mean, 2.0), maps(slots * 4, 0.0, 0.7), objectness)


def both(task: BoxTask, *, images: int, mean: float, image_hw: tuple[int, int]):
    """Return the task's detections and the nodes', in pixels of images of this size."""
    output = random_output(task, images=images, mean=mean)
    pixels = np.zeros((images, *image_hw, 3), np.uint8)
    place = letterbox(Sample.of_image(pixels[0], image_id=0, name="x"), size_hw=SIZE_HW).placement
    wanted = [
        found.to_original(place) for found in task.predict(output, SIZE_HW, placements=[place] * images)
    ]
    scored = with_objectness(output)  # as the exported network says it
    feeds = {f"class{level}": maps.numpy() for level, maps in enumerate(scored.class_logits)}
    feeds |= {f"box{level}": maps.numpy() for level, maps in enumerate(output.box_deltas)}
    boxes, scores, labels, counts = session_for(task).run(None, {"image": pixels, **feeds})
    assert (scores[np.arange(scores.shape[1]) >= counts[:, None]] == 0).all()
    assert (labels[np.arange(scores.shape[1]) >= counts[:, None]] == -1).all()
    found = [
        Detections(*(torch.tensor(column[i, : counts[i]]) for column in (boxes, scores, labels)))
        for i in range(images)
    ]
    return wanted, found


@pytest.mark.parametrize(
    ("classes", "options", "mean"),
    [
        (3, {}, -2.0),
        (1, {}, -1.0),
        (5, {"nms": HardNms(iou=0.3, across_classes=True)}, -3.0),
        (4, {"candidates": 150, "most": 20}, 1.0),  # more above the threshold than are looked at
        (2, {"score_threshold": 0.4, "keep_empty_boxes": True}, -3.0),
        (2, {"score_threshold": 0.0, "most": 30}, -4.0),
    ],
)
@pytest.mark.parametrize("image_hw", [(64, 96), (33, 101), (200, 90)])
def test_detections_are_those_of_the_task(classes, options, mean, image_hw):
    task = DetectionTask(classes, ANCHORS, **options)
    assert isinstance(task.nms, HardNms)
    wanted, found = both(task, images=2, mean=mean, image_hw=image_hw)
    assert sum(len(one) for one in wanted) > 10
    for one, other in zip(wanted, found, strict=True):
        result = compare_boxes(
            one, other, nms_iou=task.nms.iou, score_threshold=task.score_threshold, most=task.most
        )
        assert result.faults == ()
        assert result.pairs >= 0.9 * len(one)
        assert result.pixels < 0.01
        assert bool((other.scores[:-1] >= other.scores[1:]).all()), "best first"


@pytest.mark.parametrize(
    ("classes", "options", "mean"),
    [
        (3, {}, -1.0),
        (1, {"nms": HardNms(iou=0.3, across_classes=True)}, 0.0),
        (4, {"candidates": 150, "most": 20, "keep_empty_boxes": True}, 1.0),
    ],
)
@pytest.mark.parametrize("image_hw", [(64, 96), (33, 101)])
def test_boxes_near_their_cells_are_decoded_as_by_the_task(classes, options, mean, image_hw):
    task = YoloTask(classes, PIXELS, **options)
    assert isinstance(task.nms, HardNms)
    wanted, found = both(task, images=2, mean=mean, image_hw=image_hw)
    assert sum(len(one) for one in wanted) > 10
    for one, other in zip(wanted, found, strict=True):
        result = compare_boxes(
            one, other, nms_iou=task.nms.iou, score_threshold=task.score_threshold, most=task.most
        )
        assert result.faults == ()
        assert result.pairs >= 0.9 * len(one)
        assert result.pixels < 0.01


@pytest.mark.parametrize("task", [DetectionTask(3, ANCHORS), YoloTask(3, PIXELS)])
def test_nothing_found_is_an_empty_list(task):
    wanted, found = both(task, images=3, mean=-60.0, image_hw=(40, 40))
    assert [len(one) for one in wanted] == [len(one) for one in found] == [0, 0, 0]


def test_soft_suppression_is_refused():
    with pytest.raises(UsageError, match="SoftNms has no counterpart in ONNX"):
        check_suppression(DetectionTask(3, ANCHORS, nms="soft"))

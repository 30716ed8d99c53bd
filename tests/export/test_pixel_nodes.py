import numpy as np
import pytest
import torch
from onnx import TensorProto

from tests.export.sessions import session_of
from trivet.data.letterbox import letterbox
from trivet.export import pixel_nodes
from trivet.structures import Sample
from trivet.tasks.segmentation import SegmentationTask

SIZE_HW, CELLS_HW, CLASSES = (64, 96), (16, 24), 5


def session():
    def add(graph, placed):
        pixel_nodes.add_masks(
            graph,
            "logits",
            placed,
            classes=CLASSES,
            cells_hw=CELLS_HW,
            size_hw=SIZE_HW,
            names=("labels", "scores"),
        )

    return session_of(
        add,
        size_hw=SIZE_HW,
        maps={"logits": ("b", CLASSES, *CELLS_HW)},
        outputs={"labels": (TensorProto.UINT8, 3), "scores": (TensorProto.FLOAT, 3)},
    )


@pytest.mark.parametrize(
    "at_once", [1 << 22, 20_000, 1]
)  # whole; strips of some rows, the last one short; single rows
@pytest.mark.parametrize("image_hw", [(64, 96), (101, 33), (37, 150), (1, 1)])
def test_masks_are_those_of_the_task(at_once, image_hw, monkeypatch):
    monkeypatch.setattr(pixel_nodes, "_AT_ONCE", at_once)
    logits = torch.randn(2, CLASSES, *CELLS_HW, generator=torch.Generator().manual_seed(1)) * 3
    images = np.zeros((2, *image_hw, 3), np.uint8)
    place = letterbox(Sample.of_image(images[0], image_id=0, name="x"), size_hw=SIZE_HW).placement
    wanted = SegmentationTask(CLASSES).predict(logits, SIZE_HW, placements=[place] * 2)
    labels, scores = session().run(None, {"image": images, "logits": logits.numpy()})
    assert labels.shape == scores.shape == (2, *image_hw)
    for number, one in enumerate(wanted):
        np.testing.assert_allclose(scores[number], one.scores.numpy(), atol=1e-5)
        assert (labels[number] != one.labels.numpy()).mean() <= 1e-4

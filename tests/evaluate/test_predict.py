import numpy as np
import pytest
import torch
from torch import nn

from trivet.evaluate.predict import predict_dataset
from trivet.structures import Batch, BoxTarget, Detections, Placement


class BrightestPixel(nn.Module):
    """Outputs, as a detector of one class, the place of the brightest pixel."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(3)
        self.free = nn.BatchNorm2d(3)
        self.modes = []

    def normalise(self, images):
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        return images.float() / 255

    def forward(self, images):
        self.modes.append((self.training, self.free.training))
        assert torch.is_inference_mode_enabled()
        grey = images.sum(dim=1)
        place = grey.flatten(1).argmax(dim=1)
        return torch.stack([place % grey.shape[2], place // grey.shape[2]], dim=1)


class OnePixel:
    def __init__(self):
        self.sizes = []

    def predict(self, output, size_hw, *, placements=None):
        self.sizes.append(size_hw)
        boxes = torch.cat([output, output + 1], dim=1).float()
        return tuple(
            Detections(box[None], torch.tensor([0.5]), torch.tensor([0]))
            if box[:2].sum()
            else Detections.empty()
            for box in boxes
        )


def one_batch(ids, pixels, placements):
    images = torch.zeros(len(ids), 3, 8, 12, dtype=torch.uint8)
    for image, (x, y) in zip(images, pixels, strict=True):
        image[:, y, x] = 200
    target = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return Batch(images, (target,) * len(ids), torch.tensor(ids), tuple(map(str, ids)), tuple(placements))


@pytest.fixture
def loader():
    half = Placement((16, 16), (0.5, 0.5), (0.0, 2.0))
    return [
        one_batch([7, 3], [(4, 5), (2, 1)], [half, half]),
        one_batch([9], [(11, 7)], [Placement((8, 12))]),
    ]


def test_boxes_come_back_in_the_originals_pixels(loader):
    found = predict_dataset(BrightestPixel(), OnePixel(), loader, device="cpu")
    assert found.image_ids.tolist() == [7, 3, 9]
    np.testing.assert_array_equal(found.boxes_xyxy, [[4, 10, 6, 12], [0, 2, 2, 4], [11, 7, 12, 8]])
    assert found.scores.tolist() == [0.5, 0.5, 0.5]
    assert found.labels.dtype == np.int64


def test_the_task_gets_the_inputs_size_and_progress_the_images(loader):
    task, seen = OnePixel(), []
    predict_dataset(BrightestPixel(), task, loader, device="cpu", progress=seen.append)
    assert task.sizes == [(8, 12), (8, 12)]
    assert seen == [2, 1]


def test_parts_return_to_their_own_modes(loader):
    model = BrightestPixel().train()
    model.frozen.eval()
    predict_dataset(model, OnePixel(), loader, device="cpu")
    assert model.modes == [(False, False)] * 2
    assert (model.training, model.free.training, model.frozen.training) == (True, True, False)


def test_modes_return_after_a_fault(loader):
    class Broken(OnePixel):
        def predict(self, output, size_hw, *, placements=None):
            raise RuntimeError("broken")

    model = BrightestPixel().train()
    with pytest.raises(RuntimeError, match="broken"):
        predict_dataset(model, Broken(), loader, device="cpu")
    assert model.training


def test_nothing_found_and_no_images_give_an_empty_table():
    dark = one_batch([1], [(0, 0)], [Placement((8, 12))])
    for batches in ([dark], []):
        found = predict_dataset(BrightestPixel(), OnePixel(), batches, device="cpu")
        assert len(found) == 0
        assert found.boxes_xyxy.shape == (0, 4)


@pytest.mark.slow
def test_a_real_model_and_task_predict_inside_the_originals():
    from trivet.models.build import build_model
    from trivet.tasks.detection import DetectionTask

    torch.manual_seed(0)
    model = build_model("efficientdet_lite0", classes=2, pretrained=False)
    task = DetectionTask(2, model.anchor_spec, score_threshold=0.0, most=20)
    placement = Placement((64, 100), (1.28, 1.28), (23.0, 0.0))
    images = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    target = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    batch = Batch(images, (target, target), torch.tensor([5, 6]), ("a", "b"), (placement, placement))
    found = predict_dataset(model, task, [batch], device="cpu")
    assert set(found.image_ids.tolist()) == {5, 6}
    assert found.boxes_xyxy.min() >= 0
    assert (found.boxes_xyxy.max(axis=0) <= [100, 64, 100, 64]).all()
    # What prediction left behind (anchors) still trains.
    losses = task.losses(model.train()(model.normalise(images)), batch)
    losses["loss"].backward()

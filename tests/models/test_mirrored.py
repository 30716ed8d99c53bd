import pytest
import torch
from torch import nn

from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.models.mirrored import average_mirrored
from trivet.models.outside import wrap_model


class Lopsided(nn.Module):
    """Logits that depend on which side is bright; for masks with a second output, as deep supervision has it."""

    def __init__(self, *, masks):
        super().__init__()
        self.masks = masks
        self.weight = nn.Parameter(torch.randn(3, 3, 4, 8))

    def forward(self, images):
        logits = torch.einsum("bchw,kchw->bkhw", images, self.weight)
        return {"out": logits, "aux": 2 * logits} if self.masks else logits.mean((2, 3))


def model_of(task):
    torch.manual_seed(0)
    module = Lopsided(masks=task == "segmentation")
    return wrap_model(module, task=task, classes=3, multiple=1).eval()


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_probabilities_are_the_mean_over_an_image_and_its_mirror_image(task):
    model, images = model_of(task), torch.randn(2, 3, 4, 8)
    with torch.no_grad():
        one, other = (
            (output if task == "classification" else output[0]).softmax(dim=1)
            for output in (model(images), model(images.flip(3)))
        )
        found = average_mirrored(model)(images).softmax(dim=1)
    expected = (one + (other.flip(3) if task == "segmentation" else other)) / 2
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, one, atol=1e-3)


def test_an_image_and_its_mirror_image_have_the_same_class():
    model, images = average_mirrored(model_of("classification")), torch.randn(4, 3, 4, 8)
    torch.testing.assert_close(model(images), model(images.flip(3)))


def test_training_is_left_alone():
    model, images = model_of("segmentation").train(), torch.randn(1, 3, 4, 8)
    before = model(images)
    assert all(map(torch.equal, before, average_mirrored(model)(images)))


def test_a_detector_is_refused():
    model = build_model("efficientdet_lite0", classes=2, size_hw=(64, 64), pretrained=False)
    with pytest.raises(UsageError, match="for classifiers and segmenters"):
        average_mirrored(model)

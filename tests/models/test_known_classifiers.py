"""Published classifiers give their published answers through our data path."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.resnet20 import ResNet20
from trivet.data.batching import eval_loader
from trivet.data.sources import read_dataset
from trivet.models.backbone import imagenet_labels, packaged_weights
from trivet.models.build import build_model
from trivet.models.files import read_weights
from trivet.models.outside import wrap_model

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.slow
def test_resnet20_on_cifar10(shared_data):
    state = read_weights(shared_data / "weights" / "resnet20_cifar10-12fca82f.th").tensors
    module = ResNet20()
    module.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    model = wrap_model(module, task="classification", classes=10, size_hw=(32, 32), **IMAGENET).eval()
    test = read_dataset(shared_data / "cifar10").test
    correct = 0
    with torch.no_grad():
        for batch in eval_loader(test, size_hw=(32, 32), batch=500):
            predicted = model(model.normalise(batch.images)).argmax(dim=1)
            correct += int((predicted == batch.class_targets.labels).sum())
    assert (correct, len(test)) == (9173, 10_000)


@pytest.fixture(scope="module")
def lite0():
    if packaged_weights("tf_efficientnet_lite0") is None:
        pytest.skip("the package of ImageNet weights is not installed")
    return build_model("efficientnet_lite0", pretrained=True).eval()


@pytest.mark.parametrize(
    ("picture", "expected"),
    [("chelsea", {"tiger cat": 0.39, "Egyptian cat": 0.36}), ("coffee", {"espresso": 0.95})],
)
def test_lite0_knows_what_it_sees(lite0, picture, expected):
    data = pytest.importorskip("skimage.data")
    image = getattr(data, picture)()
    scale = 256 / min(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (resized.shape[0] - 224) // 2, (resized.shape[1] - 224) // 2
    middle = torch.from_numpy(resized[top : top + 224, left : left + 224].copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        shares = lite0(lite0.normalise(middle)).softmax(dim=1)[0]
    best = shares.topk(len(expected))
    names = [imagenet_labels().names[index] for index in best.indices]
    assert names == list(expected)
    assert best.values.tolist() == pytest.approx(list(expected.values()), abs=0.015)

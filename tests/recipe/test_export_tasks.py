"""Export of segmenters and classifiers, trained on the spot."""

import cv2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trivet.data.digits import write_digits
from trivet.export.reading import open_onnx
from trivet.recipe.backends import TorchBackend
from trivet.recipe.export import export_model
from trivet.recipe.fit import fit
from trivet.recipe.predict_files import predict_files
from trivet.recipe.run_folder import load_run


@pytest.mark.slow
def test_a_segmenter_labels_every_pixel_the_same(tmp_path):
    data = write_digits(
        tmp_path / "masks", images={"train": 8, "val": 4}, classes=3, size_hw=(64, 70), heights=(0.2, 0.5)
    )
    values = {
        "task.kind": "segmentation",
        "train.epochs": 1,
        "train.batch": 4,
        "model.size_hw": (64, 96),
        "model.pretrained": False,
    }
    run = fit(data, values, out=tmp_path / "runs", listeners=())
    done = export_model(run.folder.path)
    assert done.proof.passed
    assert done.proof.differences.labels <= 1e-4
    found = predict_files(done.path, [data / "images" / "val"], out=tmp_path / "drawn")
    for image in found.to_json()["images"]:
        mask = cv2.imread(image["mask"], cv2.IMREAD_UNCHANGED)
        assert mask.shape == (image["height"], image["width"]) == (64, 70)


@pytest.mark.slow
def test_a_classifier_gives_the_same_scores(tmp_path):
    digits = load_digits()
    for number, (image, digit) in enumerate(zip(digits.images[:60], digits.target[:60], strict=True)):
        path = tmp_path / "ink" / ("train" if number < 40 else "val") / f"digit-{digit % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 32 if number % 5 else 29
        cv2.imwrite(str(path), cv2.resize((image * 15).astype(np.uint8), (side, side)))
    values = {"train.epochs": 1, "train.batch": 10, "model.options": {"widths": (8, 16, 16)}}
    run = fit(tmp_path / "ink", values, out=tmp_path / "runs", listeners=())
    done = export_model(run.folder.path)
    assert done.proof.passed
    assert done.proof.differences.scores < 1e-5
    images = [np.full((31, 57, 3), shade, np.uint8) for shade in (0, 200)]
    wanted = TorchBackend(load_run(run.folder.path)).predict(images)
    for one, other in zip(wanted, open_onnx(done.path).predict(images), strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)

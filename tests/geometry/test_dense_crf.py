import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.dense_crf import CRF_PRESETS, CrfParameters, dense_crf
from trivet.geometry.dense_crf_kernels import gaussian_filter


def brute_force(probabilities: np.ndarray, image: np.ndarray, given: CrfParameters) -> np.ndarray:
    """The mean field from its definition: float64, all pairs of pixels, kernel by kernel."""
    classes, height, width = probabilities.shape
    y, x = (axis.ravel().astype(np.float64) for axis in np.mgrid[:height, :width])
    colours = image.reshape(-1, 3).astype(np.float64)
    apart = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    unlike = ((colours[:, None] - colours[None]) ** 2).sum(axis=2)
    smooth = np.exp(-apart / (2 * given.smoothness_sigma_xy**2))
    alike = np.exp(-apart / (2 * given.appearance_sigma_xy**2) - unlike / (2 * given.appearance_sigma_rgb**2))
    unary = -np.log(np.clip(probabilities.reshape(classes, -1).astype(np.float64), 1e-5, 1))
    belief = np.exp(-unary) / np.exp(-unary).sum(axis=0)
    for _ in range(given.iterations):
        energy = unary.copy()
        for weight, kernel in ((given.smoothness_weight, smooth), (given.appearance_weight, alike)):
            root = np.sqrt(kernel.sum(axis=1))
            message = belief @ (kernel / root[:, None] / root[None])
            energy -= weight * message  # Potts: what agrees costs nothing
        energy -= energy.min(axis=0)
        belief = np.exp(-energy) / np.exp(-energy).sum(axis=0)
    return belief.reshape(probabilities.shape)


def picture(size_hw=(12, 17), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two areas of noisy colour, and probabilities that know them badly."""
    random = np.random.default_rng(seed)
    side = np.broadcast_to(np.arange(size_hw[1]) > size_hw[1] * 0.55, size_hw)
    image = np.where(side[..., None], (200, 60, 40), (60, 110, 160)) + random.normal(0, 6, (*size_hw, 3))
    logits = random.normal(0, 1.5, (3, *size_hw))
    logits[0] += np.where(side, 0.0, 1.5)
    logits[1] += np.where(side, 1.5, 0.0)
    image_uint8 = torch.from_numpy(image.clip(0, 255).astype(np.uint8))
    return torch.from_numpy(logits).float().softmax(dim=0), image_uint8


@pytest.mark.parametrize("preset", CRF_PRESETS)
def test_small_images_are_exact(preset):
    probabilities, image = picture()
    found = dense_crf(probabilities, image, preset)
    expected = brute_force(probabilities.numpy(), image.numpy(), CRF_PRESETS[preset])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-4)
    assert np.abs(expected - probabilities.numpy()).mean() > 0.01  # the CRF did something


@pytest.mark.parametrize("missing", ["smoothness_weight", "appearance_weight"])
def test_each_kernel_alone_is_exact(missing):
    probabilities, image = picture((9, 31), seed=1)
    given = replace(CRF_PRESETS["pydensecrf"], **{missing: 0.0})
    expected = brute_force(probabilities.numpy(), image.numpy(), given)
    np.testing.assert_allclose(dense_crf(probabilities, image, given).numpy(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("preset", ["deeplab-v1", "pydensecrf"])
def test_the_lattice_is_nearly_exact_on_a_photograph(shared_data, preset):
    photo = cv2.imread(str(min((shared_data / "camvid" / "val").glob("*.jpg"))))[150:190, 200:240, ::-1]
    image = torch.from_numpy(np.ascontiguousarray(photo))
    torch.manual_seed(0)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 4, 6, 6) * 2, size=(40, 40), mode="bilinear")
    probabilities = coarse[0].softmax(dim=0)
    exact, near = (dense_crf(probabilities, image, preset, method=m) for m in ("exact", "lattice"))
    assert (exact - near).abs().mean() < 0.02
    assert (exact.argmax(dim=0) == near.argmax(dim=0)).float().mean() > 0.97


def test_borders_move_to_those_of_the_image():
    probabilities, image = picture((40, 50))
    side = (torch.arange(50) > 50 * 0.55).expand(40, 50).long()
    for method in ("exact", "lattice"):
        found = dense_crf(probabilities, image, method=method)
        before, after = ((p.argmax(dim=0) == side).float().mean() for p in (probabilities, found))
        assert before < 0.8
        assert after > 0.98


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_probabilities_stay_probabilities(method):
    probabilities, image = picture()
    certain = torch.zeros_like(probabilities)
    certain[1] = 1
    for given in (probabilities, certain):
        found = dense_crf(given, image, method=method)
        assert found.isfinite().all()
        torch.testing.assert_close(found.sum(dim=0), torch.ones(12, 17))
    assert (found[1] > 0.999).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (7, 1)])
def test_images_of_a_pixels_width(size_hw):
    probabilities, image = picture(size_hw)
    for method in ("exact", "lattice"):
        assert dense_crf(probabilities, image, method=method).shape == (3, *size_hw)


@pytest.mark.parametrize("sigma", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("size_hw", [(1, 5), (64, 65), (70, 129)])
def test_the_gaussian_is_that_of_the_whole_plane(sigma, size_hw):
    torch.manual_seed(0)
    values = torch.rand(math.prod(size_hw), 2)
    along = [
        torch.exp(-((torch.arange(n)[:, None] - torch.arange(n)).double() ** 2) / (2 * sigma**2))
        for n in size_hw
    ]
    expected = torch.einsum("yi,xj,ijc->yxc", *along, values.view(*size_hw, 2).double()).view(-1, 2)
    found = gaussian_filter(size_hw, sigma, "cpu")(values)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "at least one iteration"),
        ({"appearance_sigma_rgb": 0.0}, "positive standard deviations"),
        ({"smoothness_weight": -1.0}, "weights of at least 0"),
        ({"smoothness_weight": 0.0, "appearance_weight": 0.0}, "one of them positive"),
    ],
)
def test_faulty_parameters_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(CRF_PRESETS["deeplab-v1"], **change)


def test_what_does_not_fit_is_refused():
    probabilities, image = picture()
    with pytest.raises(UsageError, match="unknown CRF preset 'deeplab'; did you mean"):
        dense_crf(probabilities, image, "deeplab")
    with pytest.raises(UsageError, match=r"of the image's size, got \[3, 12, 16\] for an image of 12 x 17"):
        dense_crf(probabilities[:, :, 1:], image)
    with pytest.raises(UsageError, match="probabilities in 0-1, got -"):
        dense_crf(probabilities.log(), image)
    with pytest.raises(UsageError, match="probabilities in 0-1, got nan"):
        dense_crf(probabilities * float("nan"), image)

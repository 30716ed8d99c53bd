"""Dense conditional random field: moves a segmenter's borders to those of the image."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trivet.errors import UsageError, look_up
from trivet.geometry.dense_crf_kernels import (
    bilateral_points,
    exact_filter,
    gaussian_filter,
    lattice_filter,
    normalised,
)

_EXACT_PIXELS = 64 * 64
_LEAST_PROBABILITY = 1e-5


@dataclass(frozen=True)
class CrfParameters:
    """How strongly pixels pull at each other, and how far (Kraehenbuehl and Koltun 2011, equation 3).

    Args:
        iterations: Steps of the mean field.
        smoothness_weight: Weight of the kernel that knows places only (their w2).
        smoothness_sigma_xy: Its standard deviation in pixels (their theta gamma).
        appearance_weight: Weight of the kernel that knows places and colours (their w1).
        appearance_sigma_xy: Its standard deviation in pixels (their theta alpha).
        appearance_sigma_rgb: Its standard deviation in colour values, 0-255 (their theta beta).
    """

    iterations: int
    smoothness_weight: float
    smoothness_sigma_xy: float
    appearance_weight: float
    appearance_sigma_xy: float
    appearance_sigma_rgb: float

    def __post_init__(self) -> None:
        weights = (self.smoothness_weight, self.appearance_weight)
        sigmas = (self.smoothness_sigma_xy, self.appearance_sigma_xy, self.appearance_sigma_rgb)
        numbers_fit = all(0 <= w < float("inf") for w in weights) and all(
            0 < s < float("inf") for s in sigmas
        )
        if self.iterations < 1 or not numbers_fit or not any(weights):
            raise UsageError(
                "a dense CRF needs at least one iteration, weights of at least 0, one of them positive, and positive "
                f"standard deviations, got {self}"
            )


CRF_PRESETS: dict[str, CrfParameters] = {
    "deeplab-v1": CrfParameters(10, 3.0, 3.0, 5.0, 50.0, 10.0),
    "deeplab-largefov": CrfParameters(10, 3.0, 3.0, 4.0, 121.0, 5.0),
    "deeplab-v2": CrfParameters(10, 3.0, 1.0, 4.0, 67.0, 3.0),
    "pspnet-trash": CrfParameters(50, 3.0, 3.0, 4.0, 49.0, 5.0),
    "deconvnet": CrfParameters(10, 3.0, 3.0, 5.0, 20.0, 3.0),
    "pydensecrf": CrfParameters(5, 3.0, 3.0, 10.0, 80.0, 13.0),
}
"""Published settings: DeepLab v1's scripts, a LargeFOV reproduction (CoinCheung), DeepLab v2 with ResNet-101 on VOC
(kazuto1011), the winners of the recycling-trash competition of 2021, DeconvNet, and the example of pydensecrf."""


def dense_crf(
    probabilities: Float[Tensor, "classes h w"],
    image: UInt8[Tensor, "_ _ 3"],
    parameters: str | CrfParameters = "deeplab-v1",
    *,
    method: Literal["auto", "exact", "lattice"] = "auto",
) -> Float[Tensor, "classes h w"]:
    """Return the probabilities after some steps of the mean field of a fully connected CRF.

    Kraehenbuehl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials": each
    pixel's unary is -log of its probability (at least 1e-5), any two pixels with different labels pay by the Potts
    model with a kernel of their places and one of their places and colours, both normalised symmetrically; a pixel
    counts among its own neighbours, as in the authors' program, from which the published parameters come.

    Args:
        probabilities: The segmenter's, 0-1, at the image's size.
        image: RGB, 0-255.
        parameters: A name of `CRF_PRESETS`, or the numbers.
        method: How the kernel of places and colours is applied. `exact` compares every two pixels: memory and time
            grow with the square of the pixels. `lattice` approximates it (`PermutohedralLattice`): by about 2 % of
            the messages on photographs. `auto` is exact up to 64 x 64 pixels.

    Raises:
        UsageError: If the preset is unknown, the sizes differ, or the probabilities are none.
    """
    if isinstance(parameters, str):
        parameters = look_up("CRF preset", parameters, CRF_PRESETS)
    _check(probabilities, image)
    if method not in ("auto", "exact", "lattice"):
        raise UsageError(f"unknown method {method!r} of the dense CRF", "known: auto, exact, lattice")
    classes, height, width = probabilities.shape
    pixels, device = height * width, probabilities.device
    exact = method == "exact" or (method == "auto" and pixels <= _EXACT_PIXELS)
    pulls = []
    if parameters.smoothness_weight:
        smooth = gaussian_filter((height, width), parameters.smoothness_sigma_xy, device)
        pulls.append((parameters.smoothness_weight, normalised(smooth, pixels, device)))
    if parameters.appearance_weight:
        points = bilateral_points(
            image.to(device), parameters.appearance_sigma_xy, parameters.appearance_sigma_rgb
        )
        alike = exact_filter(points) if exact else lattice_filter(points)
        pulls.append((parameters.appearance_weight, normalised(alike, pixels, device)))
    evidence = probabilities.float().clamp(_LEAST_PROBABILITY, 1.0).log().flatten(1).T.contiguous()
    belief = evidence.softmax(dim=1)
    for _ in range(parameters.iterations):
        energy = evidence.clone()
        for weight, pull in pulls:
            energy.add_(pull(belief), alpha=weight)
        belief = energy.softmax(dim=1)
    return belief.T.reshape(classes, height, width)


def _check(probabilities: Tensor, image: Tensor) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8:
        raise UsageError(
            f"a dense CRF needs an RGB image, uint8 [h, w, 3], got {image.dtype} {list(image.shape)}"
        )
    if probabilities.ndim != 3 or probabilities.shape[1:] != image.shape[:2]:
        raise UsageError(
            f"a dense CRF needs probabilities [classes, h, w] of the image's size, got {list(probabilities.shape)} "
            f"for an image of {image.shape[0]} x {image.shape[1]}",
            "resize the logits to the image before the softmax",
        )
    low, high = (float(value) for value in probabilities.aminmax())
    if not (low >= 0 and high <= 1 + 1e-4):  # NaN fits neither
        raise UsageError(
            f"a dense CRF needs probabilities in 0-1, got {low:.4g} to {high:.4g}",
            "give it softmax(logits, dim=0)",
        )

"""Published segmenters by name.

- `deconvnet_vgg16_bn`: DeconvNet as published; `deconvnet_vgg16` has no batch norm in its encoder, so that VGG-16's
  own weights suit. `width=0.25` makes either a sixteenth as large.
- `deeplabv1_vgg16`: DeepLab v1 with the large field of view, its score map before the dense CRF.
- `semantic_fpn_lite0`, `semantic_bifpn_lite0`: light segmenters of this project for small machines.
"""

from collections.abc import Mapping
from typing import Any

from trivet.models.entry import ZooEntry

_VOC_CLASSES = 21
_LITE: dict[str, Any] = {
    "levels": (2, 5),
    "channels": 64,
    # not the backbone's ReLU6: rare classes ended where all channels are 0, and no gradient led out of there
    "activation": "silu",
    "padding": "same",
    "norm_momentum": 0.1,
}


def _segmenter(
    backbone: str,
    neck: str,
    head: str,
    options: Mapping[str, Any],
    *,
    size: int,
    parameters: int,
    gmacs: float,
    source: str,
) -> ZooEntry:
    return ZooEntry(
        backbone,
        size,
        options,
        parameters,
        gmacs,
        source,
        neck=neck,
        head=head,
        task="segmentation",
        classes=_VOC_CLASSES,
    )


def _deconvnet(backbone: str, parameters: int) -> ZooEntry:
    return _segmenter(
        backbone,
        "deconvnet",
        "semantic",
        {"levels": (0, 4), "mask_layers": 0},
        size=224,
        parameters=parameters,
        gmacs=32.746,
        source="DeconvNet, arXiv:1505.04366, and its network files (HyeonwooNoh/DeconvNet)",
    )


def _lite0(neck: str, parameters: int, gmacs: float, **options: Any) -> ZooEntry:
    return _segmenter(
        "tf_efficientnet_lite0",
        neck,
        "semantic",
        {**_LITE, **options},
        size=512,
        parameters=parameters,
        gmacs=gmacs,
        source="Trivet, after panoptic FPN, arXiv:1901.02446, section 3",
    )


SEGMENTERS: dict[str, ZooEntry] = {
    "semantic_fpn_lite0": _lite0("fpn", 3_016_469, 2.149),
    "semantic_bifpn_lite0": _lite0("bifpn", 3_085_489, 2.322, layers=2),
    "deconvnet_vgg16": _deconvnet("vgg16", 251_797_205),
    "deconvnet_vgg16_bn": _deconvnet("vgg16_bn", 251_805_653),
    "deeplabv1_vgg16": _segmenter(
        "vgg16",
        "none",
        "large_fov",
        {"levels": (3, 3), "atrous": True},
        size=321,
        parameters=20_505_429,
        gmacs=50.928,
        source="DeepLab v1 (LargeFOV), arXiv:1412.7062",
    ),
}

"""Published models by name: which parts they are made of, and the figures their papers give.

Three spellings, as in the PyTorch port `effdet` that their weights come from:

- `tf_efficientdet_d0`...`d7`, `d7x`: exactly the paper's TensorFlow models, padding included.
- `tf_efficientdet_d0_ap`...`d5_ap`: the same graphs trained with AdvProp: other pixel statistics, black padding.
- `efficientdet_d0`...`d5`: PyTorch padding, and in `d0`-`d3` no bias before a norm. `d6`, `d7`, `d7x` have no such
  variant and mean the `tf_` models.

The lite models exist in one form, so that `efficientdet_lite0` and `tf_efficientdet_lite0` are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trivet.errors import unknown_name


@dataclass(frozen=True)
class ZooEntry:
    """One published model.

    Args:
        backbone: A timm name.
        size: Side of its square input, in pixels.
        options: Keyword arguments of its parts.
        parameters: Exact count with 90 classes.
        gmacs: Multiply-adds of one image at `size`, in 10^9, convolutions only.
        ap: COCO AP in per cent, as published; test-dev where `split` says so.
        split: The COCO split of `ap`.
        published_flops: The paper's FLOPs in 10^9 (it counts a multiply-add as one), or `None`.
        source: Where the figures are from.
        neck: A name of `NECKS`.
        head: A name of `HEADS`.
    """

    backbone: str
    size: int
    options: Mapping[str, Any]
    parameters: int
    gmacs: float
    ap: float | None
    split: str = "test-dev2017"
    published_flops: float | None = None
    source: str = "EfficientDet, arXiv:1911.09070"
    neck: str = "bifpn"
    head: str = "anchor"


def _d(backbone, size, channels, layers, tower_layers, *figures, **options):
    parameters, gmacs, flops, ap = figures
    return ZooEntry(
        f"tf_efficientnet_{backbone}",
        size,
        {
            "channels": channels,
            "layers": layers,
            "tower_layers": tower_layers,
            "redundant_bias": True,
            "padding": "same",
            "drop_path": 0.2,
            **options,
        },
        parameters,
        gmacs,
        ap,
        published_flops=flops,
    )


_TF: dict[str, ZooEntry] = {
    "d0": _d("b0", 512, 64, 3, 3, 3_880_067, 2.492, 2.54, 34.6),
    "lite0": _d(
        "lite0",
        320,
        64,
        3,
        3,
        3_243_470,
        0.974,
        None,
        26.4,
        fusion="sum",
        activation="relu6",
        anchor_scale=3.0,
        drop_path=0.0,
    ),
}

ZOO = {f"tf_efficientdet_{name}": entry for name, entry in _TF.items()}
ZOO["efficientdet_lite0"] = ZOO["tf_efficientdet_lite0"]
ZOO["efficientdet_d0"] = replace(
    ZOO["tf_efficientdet_d0"],
    backbone="efficientnet_b0",
    options={
        **ZOO["tf_efficientdet_d0"].options,
        "redundant_bias": False,
        "padding": "symmetric",
        "drop_path": 0.1,
    },
)


def zoo_entry(name: str) -> ZooEntry:
    """Return the published model of this name.

    Raises:
        UsageError: If there is none.
    """
    if name not in ZOO:
        raise unknown_name("model", name, ZOO)
    return ZOO[name]

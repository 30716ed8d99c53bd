"""Published classifiers by name, and a compact one of ours for small pictures.

`efficientnet_b0`...`b7` and `efficientnet_lite0`...`lite4` are the paper's own networks (timm's `tf_efficientnet_...`:
TensorFlow's padding and norms), their last convolution and classifier included, so that published weights fill all
of the model. `regnet_bifpn` is RegNet-X 200MF with a BiFPN for pictures of 32 x 32 pixels; `regnet_small` is the
same without the BiFPN.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from trivet.models.entry import ZooEntry

_PAPER = "EfficientNet, arXiv:1905.11946, table 2, and its README (tensorflow/tpu)"
_LITE = "EfficientNet-Lite (tensorflow/tpu), README"
_REGNET = "RegNet, arXiv:2003.13678, table 2 (X-200MF); BiFPN: arXiv:1911.09070"
_COMPACT = "of ours, after arXiv:2404.00498"


class _Row(NamedTuple):
    """One line of a table: network, side, dropout, channels before the classifier, counts and accuracy."""

    name: str
    size: int
    dropout: float
    channels: int
    parameters: int
    gmacs: float
    published_parameters: float
    top1: float
    more: Mapping[str, Any] = {}


def _efficientnet(row: _Row, source: str) -> ZooEntry:
    options = {"expand": row.channels, "dropout": row.dropout, "levels": (5, 5), "drop_path": 0.2, **row.more}
    return ZooEntry(
        f"tf_efficientnet_{row.name}",
        row.size,
        options,
        row.parameters,
        row.gmacs,
        source,
        published_parameters=row.published_parameters,
        top1=row.top1,
        neck="none",
        head="pooled",
        task="classification",
        classes=1000,
    )


_LITE_STYLE = {"activation": "relu6"}
_B = (
    _Row("b0", 224, 0.2, 1280, 5_288_548, 0.386, 5.3, 76.3),
    _Row("b1", 240, 0.2, 1280, 7_794_184, 0.687, 7.8, 78.8),
    _Row("b2", 260, 0.3, 1408, 9_109_994, 0.994, 9.2, 79.8),
    _Row("b3", 300, 0.3, 1536, 12_233_232, 1.827, 12.0, 81.1),
    _Row("b4", 380, 0.4, 1792, 19_341_616, 4.394, 19.0, 82.6),
    _Row("b5", 456, 0.4, 2048, 30_389_784, 10.266, 30.0, 83.3),
    _Row("b6", 528, 0.5, 2304, 43_040_704, 19.068, 43.0, 84.0),
    _Row("b7", 600, 0.5, 2560, 66_347_960, 37.746, 66.0, 84.4),
)
_LITES = (
    _Row("lite0", 224, 0.2, 1280, 4_652_008, 0.385, 4.7, 75.1, _LITE_STYLE),
    _Row("lite1", 240, 0.2, 1280, 5_416_680, 0.600, 5.4, 76.7, _LITE_STYLE),
    _Row("lite2", 260, 0.3, 1280, 6_092_072, 0.860, 6.1, 77.6, _LITE_STYLE),
    _Row("lite3", 280, 0.3, 1280, 8_197_096, 1.383, 8.2, 79.8, _LITE_STYLE),
    _Row("lite4", 300, 0.3, 1280, 13_006_568, 2.553, 13.0, 81.5, _LITE_STYLE),
)


def _small(
    backbone: str,
    options: Mapping[str, Any],
    parameters: int,
    gmacs: float,
    source: str,
    *,
    neck: str = "none",
) -> ZooEntry:
    return ZooEntry(
        backbone,
        32,
        options,
        parameters,
        gmacs,
        source,
        neck=neck,
        head="pooled",
        task="classification",
        classes=10,
    )


# The stem keeps the size and every stage halves it: 16, 8, 4 and 2 cells a side of a 32-pixel picture.
_SMALL_REGNET = {"strides": (1, 2, 2, 2, 2), "norm_momentum": 0.1}
_COMPACT_HEAD = {"pooling": "maximum", "linear_bias": False, "logit_scale": 1 / 9}

CLASSIFIERS: dict[str, ZooEntry] = {
    **{f"efficientnet_{row.name}": _efficientnet(row, _PAPER) for row in _B},
    **{f"efficientnet_{row.name}": _efficientnet(row, _LITE) for row in _LITES},
    "regnet_bifpn": _small(
        "regnetx_002",
        {**_SMALL_REGNET, "levels": (2, 4), "channels": 64, "layers": 2, "head_layers": 1},
        2_441_324,
        0.01828,
        _REGNET,
        neck="bifpn",
    ),
    "regnet_small": _small("regnetx_002", {**_SMALL_REGNET, "levels": (4, 4)}, 2_319_482, 0.01622, _REGNET),
    "compact": _small("compact", {"widths": (32, 128, 128), **_COMPACT_HEAD}, 497_816, 0.03279, _COMPACT),
    "compact_wide": _small(
        "compact", {"widths": (64, 256, 256), **_COMPACT_HEAD}, 1_972_504, 0.11787, _COMPACT
    ),
}
CLASSIFIERS |= {f"tf_{name}": entry for name, entry in CLASSIFIERS.items() if name.startswith("efficientnet")}

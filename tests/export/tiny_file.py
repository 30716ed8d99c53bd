"""An exported classifier that is written by hand: PyTorch takes seconds to translate the smallest network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.models.tiny import tiny_model
from trivet.export.assemble import assemble
from trivet.export.facts import ExportFacts
from trivet.export.graph import IR_VERSION, OPSET, described
from trivet.export.network import IMAGES
from trivet.structures import LabelMap
from trivet.tasks.classification import ClassificationTask

SIZE_HW = (32, 48)


def tiny_file() -> ModelProto:
    """Return a file that sees red, green and blue: the mean of each channel is a logit."""
    nodes = [
        helper.make_node("GlobalAveragePool", [IMAGES], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"], axis=1),
        helper.make_node("MatMul", ["means", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [described(IMAGES, TensorProto.FLOAT, ("batch", 3, *SIZE_HW))],
        [described("logits", TensorProto.FLOAT, ("batch", 3))],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "weight")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    labels = LabelMap.from_names(["red", "green", "blue"])
    facts = ExportFacts("classification", labels, SIZE_HW, "fp32", "0" * 64, "CC0-1.0", "by hand")
    return assemble(network, tiny_model(3), ClassificationTask(3), facts)[0]


def written(path: Path, spoil: Callable[[ModelProto], None] = lambda _: None) -> Path:
    """Write the file, after something was done to it."""
    proto = tiny_file()
    spoil(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def kept_elsewhere(where: str) -> Callable[[ModelProto], None]:
    """Return what lets a file's first tensor be read from another file."""

    def spoil(proto: ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value=where)

    return spoil


def own_operators(proto: onnx.ModelProto) -> None:
    """Let a file bring operators of its own."""
    proto.opset_import.append(helper.make_opsetid("evil", 1))

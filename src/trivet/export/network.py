"""The network alone as ONNX nodes, from normalised images of one size to the head's outputs."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from trivet.export.graph import IR_VERSION, OPSET
from trivet.models.model import Model
from trivet.structures import AnchorOutput
from trivet.tasks.decode import with_objectness

IMAGES = "normalised"
"""Name of the network's input."""


class _Flat(nn.Module):
    """A model whose output is a plain tuple: class logits of all levels then box deltas; or its first output.

    What a head says of objectness goes into the class logits.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.model(images)
        if isinstance(output, AnchorOutput):
            scored = with_objectness(output)
            return (*scored.class_logits, *scored.box_deltas)
        return (output,) if isinstance(output, Tensor) else (output[0],)


def network_outputs(model: Model, images: Tensor) -> tuple[Tensor, ...]:
    """Return what the exported network returns, from PyTorch."""
    return _Flat(model)(images)


def export_network(model: Model, size_hw: tuple[int, int]) -> ModelProto:
    """Return a model's network for any number of normalised images `[b, 3, h, w]`.

    Args:
        model: In evaluation mode, on the CPU.
        size_hw: The images' size.
    """
    example = torch.zeros(2, 3, *size_hw)
    # What has been laid out channels last is exported as if it were not: ONNX knows one layout.
    flat = _Flat(model).eval().to(memory_format=torch.contiguous_format)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            flat,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            input_names=[IMAGES],
            verbose=False,
        )
    assert program is not None, "the exporter returns a program when no file is given"
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    _forget_sources(proto)
    _simplify(proto)
    return proto


def with_products(network: ModelProto, outputs: Sequence[str]) -> ModelProto:
    """Return a network whose outputs of these names are made by a product of matrices where a 1x1 convolution made them.

    It says the same. But whoever wants the channels last gets them as they are computed: the two transpositions around
    what was the convolution's result cancel, and a runtime that convolves in blocks of channels has nothing to undo.
    """
    result = ModelProto()
    result.CopyFrom(network)
    weights = {item.name: item for item in result.graph.initializer}
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        if node.output[0] in outputs and _is_pointwise(node, weights):
            nodes += _product(node, weights)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    _replace(result.graph.node, nodes)
    _replace(result.graph.initializer, [item for name, item in weights.items() if name in used])
    return result


def _is_pointwise(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
    """Whether a node is a convolution of single pixels with constant weights and a bias."""
    constant = len(node.input) == 3 and all(name in weights for name in node.input[1:])
    if node.op_type != "Conv" or not constant:
        return False
    options = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    plain = options.get("group", 1) == 1 and not any(options.get("pads", ()))
    return plain and set(options.get("strides", ())) <= {1} and set(weights[node.input[1]].dims[2:]) == {1}


def _product(node: NodeProto, weights: dict[str, TensorProto]) -> list[NodeProto]:
    """Return the nodes for a 1x1 convolution; the matrix goes to the weights, unless another level's layer is the same."""
    name, (maps, weight, bias) = node.output[0], node.input
    matrix = f"{weight}/matrix"
    if matrix not in weights:
        kernel = numpy_helper.to_array(weights[weight])[:, :, 0, 0]
        weights[matrix] = numpy_helper.from_array(np.ascontiguousarray(kernel.T), matrix)
    rows, product, said = (f"{name}/{step}" for step in ("rows", "product", "said"))
    return [
        helper.make_node("Transpose", [maps], [rows], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", [rows, matrix], [product]),
        helper.make_node("Add", [product, bias], [said]),
        helper.make_node("Transpose", [said], [name], name=node.name, perm=[0, 3, 1, 2]),
    ]


def _replace(field: Any, items: Sequence[Any]) -> None:
    del field[:]
    field.extend(items)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints, logs and warns of its own doings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _forget_sources(proto: ModelProto) -> None:
    """Drop what the exporter notes of the machine: stack traces with paths, names of Python objects."""
    graph: Any = proto.graph
    for item in (
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        del item.metadata_props[:]
        item.doc_string = ""


def _simplify(proto: ModelProto) -> None:
    """Write two operators as ONNX Runtime has its fastest code for them, and one as OpenVINO takes it.

    A mean over height and width is a global average pool; a resize by a whole factor says so; a window is not larger than
    the map below it.
    """
    graph = proto.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    shapes = {item.name: _sides(item) for item in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "ReduceMean" and _over_pixels(node, constants, shapes):
            node = helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name)
        elif node.op_type == "Resize":
            _name_factor(node, graph, shapes)
        elif node.op_type == "MaxPool":
            _shrink_window(node, shapes)
        nodes.append(node)
    _replace(graph.node, _used(nodes, [item.name for item in graph.output]))
    names = {name for node in graph.node for name in node.input}
    _replace(graph.initializer, [item for item in graph.initializer if item.name in names])
    known = [
        item
        for item in graph.value_info
        if item.name in {name for node in graph.node for name in node.output}
    ]
    _replace(graph.value_info, known)


def _sides(item: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)


def _over_pixels(
    node: NodeProto, constants: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]
) -> bool:
    keep = {item.name: helper.get_attribute_value(item) for item in node.attribute}.get("keepdims", 1)
    axes = constants.get(node.input[1]) if len(node.input) > 1 else None
    wanted = axes is not None and sorted(axis % 4 for axis in axes.tolist()) == [2, 3]
    return bool(keep) and wanted and len(shapes.get(node.output[0], ())) == 4


def _name_factor(node: NodeProto, graph: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give a resize its factors instead of its sizes where they are whole."""
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    if len(before) != 4 or len(after) != 4 or len(node.input) < 4 or 0 in (*before[2:], *after[2:]):
        return
    factors = [new / old for old, new in zip(before[2:], after[2:], strict=True)]
    if any(factor < 1 or factor % 1 for factor in factors):
        return
    name = f"{node.output[0]}/factors"
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, *factors], np.float32), name))
    source = node.input[0]
    del node.input[:]
    node.input.extend([source, "", name])


def _shrink_window(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Cut what a maximum's window has beyond a map that is smaller, with its padding, than the window."""
    given = {item.name: item for item in node.attribute}
    sides, window = shapes.get(node.input[0], ())[2:], list(given["kernel_shape"].ints)
    if len(sides) != len(window) or 0 in sides:
        return
    pads = list(given["pads"].ints) if "pads" in given else [0] * 2 * len(sides)
    room = [
        side + before + after for side, before, after in zip(sides, pads, pads[len(sides) :], strict=False)
    ]
    given["kernel_shape"].ints[:] = [min(pair) for pair in zip(window, room, strict=True)]


def _used(nodes: list[NodeProto], outputs: list[str]) -> list[NodeProto]:
    """Return the nodes on which the outputs depend."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]

"""A network whose last layers are written as products says what it said."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from trivet.export.network import IMAGES, export_network, with_products
from trivet.models.build import build_model


def said(proto, images):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {IMAGES: images})


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return export_network(build_model("efficientdet_lite0", classes=5).eval(), (64, 96))


def test_products_say_what_convolutions_say(network):
    names = [item.name for item in network.graph.output]
    levels = len(names) // 2
    written = with_products(network, names[:levels])
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    for one, other in zip(said(network, images), said(written, images), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    made = {name: node.op_type for node in written.graph.node for name in node.output}
    assert [made[name] for name in names] == ["Transpose"] * levels + ["Conv"] * levels
    matrices = [item for item in written.graph.initializer if item.name.endswith("/matrix")]
    assert len(matrices) == 1  # all levels share the layer
    assert matrices[0].dims[1] == 9 * 5
    convolutions = {node.input[1] for node in network.graph.node if node.output[0] in names[:levels]}
    assert not convolutions & {item.name for item in written.graph.initializer}


def test_the_network_that_is_given_stays_as_it_is(network):
    before = network.SerializeToString()
    with_products(network, [item.name for item in network.graph.output])
    assert network.SerializeToString() == before


@pytest.mark.parametrize(
    "changed", [{"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}, {"group": 2}, {"kernel": 3}, {"computed": True}]
)
def test_other_convolutions_are_left_alone(network, changed):
    kernel = changed.get("kernel", 1)
    values = np.ones((4, 4 // changed.get("group", 1), kernel, kernel), np.float32)
    options = {name: value for name, value in changed.items() if name in ("strides", "pads", "group")}
    weights = [numpy_helper.from_array(values, "w"), numpy_helper.from_array(np.zeros(4, np.float32), "b")]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], **options)]
    if changed.get("computed"):  # as dequantised weights are
        nodes = [
            helper.make_node("Identity", ["w"], ["v"]),
            helper.make_node("Conv", ["x", "v", "b"], ["y"]),
        ]
    proto = type(network)()
    proto.CopyFrom(network)
    graph = helper.make_graph(nodes, "g", [], [], weights)
    proto.graph.CopyFrom(graph)
    assert with_products(proto, ["y"]).graph == proto.graph

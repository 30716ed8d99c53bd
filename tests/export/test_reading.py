"""An exported file is somebody else's: what is not as `trivet export` writes it is refused."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.tiny_file import kept_elsewhere, own_operators, tiny_file, written
from trivet.errors import UsageError
from trivet.export.facts import KEY
from trivet.export.reading import check_file, open_onnx


def test_a_file_predicts(tmp_path):
    file = open_onnx(written(tmp_path / "model.onnx"), threads=1)
    image = np.zeros((20, 50, 3), np.uint8)
    image[..., 1] = 200
    assert int(file.predict([image])[0].scores.argmax()) == 1


def _external_in_a_branch(proto: onnx.ModelProto) -> None:
    branch = proto.graph
    while not (branch is not proto.graph and branch.initializer):  # one that stands in another
        node = next(node for node in branch.node if node.op_type == "If")
        branch = next(item.g for item in node.attribute if item.name == "else_branch")
    tensor = branch.initializer[0]
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_in_a_constant(proto: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    proto.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def _no_metadata(proto: onnx.ModelProto) -> None:
    del proto.metadata_props[:]


def _told(**changes):
    def change(proto: onnx.ModelProto) -> None:
        item = next(item for item in proto.metadata_props if item.key == KEY)
        item.value = json.dumps(json.loads(item.value) | changes)

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (kept_elsewhere("../../../etc/passwd"), "is kept in another file"),
        (_external_in_a_branch, "is kept in another file"),
        (_external_in_a_constant, "is kept in another file"),
        (own_operators, "brings operators of its own"),
        (_no_metadata, "was not made by trivet export"),
        (_told(format=99), "another version of Trivet"),
        (_told(task="telepathy"), "metadata is not what trivet export writes"),
        (_told(task="segmentation"), "says it is for segmentation, but has"),
        (_told(labels=[]), "needs at least one class"),
        (_told(size_hw=[64]), "metadata is not what trivet export writes"),
        (_told(licence=3), "metadata is not what trivet export writes"),
        (_told(surprise=1), "metadata is not what trivet export writes"),
    ],
)
def test_files_that_are_not_ours_are_refused(spoil, message):
    proto = tiny_file()
    spoil(proto)
    with pytest.raises(UsageError, match=message):
        check_file(proto.SerializeToString(), source="spoilt.onnx")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_file().SerializeToString()[:3_000])
    with pytest.raises(UsageError, match="is not a whole ONNX file"):
        open_onnx(path)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="was not made by trivet export"):
        open_onnx(path)
    with pytest.raises(UsageError, match="cannot read"):
        open_onnx(tmp_path / "absent.onnx")
    proto = tiny_file()
    proto.graph.node[5].op_type = "Nonsense"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match="ONNX Runtime cannot use it"):
        open_onnx(path)

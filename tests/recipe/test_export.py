"""Export through the verb: the file, its proof, and files that are refused."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from trivet.cli.app import run as trivet
from trivet.errors import ExportError, UsageError
from trivet.export.facts import KEY
from trivet.export.network import export_network
from trivet.export.reading import check_file, open_onnx
from trivet.recipe.backends import OnnxBackend, TorchBackend, choose_backend
from trivet.recipe.export import export_model
from trivet.recipe.predict import predict
from trivet.recipe.run_folder import load_run


@pytest.fixture(scope="module")
def network(quick_run):
    """The network's translation, which is what takes long."""
    return export_network(load_run(quick_run.folder.path).model, (64, 96))


@pytest.fixture(scope="module")
def exported(quick_run, network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trivet.export.network.export_network", lambda *_: network)
        done = export_model(quick_run.folder.path, licence="CC-BY-4.0")
    yield done
    done.path.unlink()  # other tests predict with PyTorch


def test_a_detector_says_the_same_in_one_file(exported, quick_run):
    proof = exported.proof
    assert exported.path == quick_run.folder.path / "model.onnx"
    assert proof.passed
    assert proof.differences.images == 5
    assert proof.differences.objects > 100, "random weights see something everywhere"
    assert proof.differences.pixels < 0.01
    assert proof.differences.scores < 1e-5
    assert proof.score_file == pytest.approx(proof.score_torch, abs=1e-6)
    assert [row["stage"] for row in proof.stages][:3] == [
        "letterboxed image",
        "normalised image",
        "class logits of p3",
    ]
    written = json.loads(exported.path.with_suffix(".proof.json").read_text())
    assert written["passed"] is True
    assert (
        "passed: the file beside PyTorch on 5 images" in exported.path.with_suffix(".proof.txt").read_text()
    )


def test_the_file_describes_itself(exported):
    proto = onnx.load(exported.path)
    onnx.checker.check_model(proto, full_check=True)
    told = {item.key: item.value for item in proto.metadata_props}
    assert told["task"] == "detection"
    assert json.loads(told["names"]) == {"0": "zero", "1": "one", "2": "two"}
    assert told["licence"] == "CC-BY-4.0"
    assert "64 x 96" in told["input"]
    text = exported.path.read_bytes()
    assert b"/src/trivet" not in text, "no paths of the machine"
    assert b"site-packages" not in text


@pytest.mark.parametrize("image_hw", [(17, 240), (90, 33), (64, 96), (401, 300)])
def test_images_of_any_size_and_batches_of_one_size(exported, quick_run, image_hw):
    images = list(np.random.default_rng(0).integers(0, 256, (3, *image_hw, 3), dtype=np.uint8))
    file, run = open_onnx(exported.path, threads=1), TorchBackend(load_run(quick_run.folder.path))
    for one, other in zip(file.predict(images), run.predict(images), strict=True):
        assert len(one) == len(other)
        torch.testing.assert_close(one.boxes_xyxy, other.boxes_xyxy, atol=0.02, rtol=0)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)


def test_an_export_predicts_where_there_is_no_gpu(exported, quick_run, digits):
    run = load_run(quick_run.folder.path)
    assert isinstance(choose_backend(run), OnnxBackend)
    assert isinstance(choose_backend(run, "torch"), TorchBackend)
    assert isinstance(choose_backend(load_run(run.folder.path, last=True)), TorchBackend)
    images = [digits / "images" / "test"]
    from_file = list(predict(exported.path, images, threshold=0.0, batch=3))
    from_run = list(predict(run.folder.path, images, threshold=0.0, backend="torch"))
    assert [one.path for one in from_file] == [one.path for one in from_run]
    assert len(from_file) == 4
    for one, other in zip(from_file, from_run, strict=True):
        torch.testing.assert_close(one.found.scores, other.found.scores, atol=1e-5, rtol=0)


def test_an_export_of_other_weights_is_not_used(exported, quick_run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("recipe.toml", "labels.json", "best.safetensors", "model.onnx"):
        (folder / name).write_bytes((quick_run.folder.path / name).read_bytes())
    content = onnx.load(folder / "model.onnx")
    told = {item.key: item for item in content.metadata_props}
    told[KEY].value = json.dumps(json.loads(told[KEY].value) | {"weights": "0" * 64})
    onnx.save(content, folder / "model.onnx")
    run = load_run(folder)
    assert isinstance(choose_backend(run), TorchBackend)
    with pytest.raises(UsageError, match="was made from other weights"):
        choose_backend(run, "onnx")
    (folder / "model.onnx").unlink()
    with pytest.raises(UsageError, match="was not exported"):
        choose_backend(run, "onnx")


def test_the_verbs(exported, quick_run, digits, capsys):
    images = str(digits / "images" / "test")
    assert trivet(["predict", str(exported.path), images, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 4
    assert trivet(["predict", str(exported.path), images, "--backend", "torch"]) == 2
    assert "is for ONNX Runtime" in capsys.readouterr().err
    assert trivet(["predict", str(exported.path), images, "--last"]) == 2
    assert trivet(["predict", str(quick_run.folder.path), images, "--backend", "tensorrt"]) == 2
    assert "unknown backend 'tensorrt'" in capsys.readouterr().err
    assert trivet(["export", str(quick_run.folder.path), "--to", "tflite"]) == 2
    assert "unknown form of export 'tflite'" in capsys.readouterr().err
    assert trivet(["export", str(quick_run.folder.path), "--out", "nowhere/model.onnx"]) == 2


def test_a_file_that_says_something_else_is_not_kept(quick_run, network, tmp_path, monkeypatch):
    """The pixels are shifted by one level beyond the tolerance: the proof names the letterboxing."""
    from trivet.export import letterbox_nodes

    right = letterbox_nodes._weighted_rows

    def wrong(graph, rows, side):
        return graph.op("Mul", right(graph, rows, side), np.float32(0.8))

    monkeypatch.setattr(letterbox_nodes, "_weighted_rows", wrong)
    monkeypatch.setattr("trivet.export.network.export_network", lambda *_: network)
    with pytest.raises(ExportError, match="first at: letterboxed image"):
        export_model(quick_run.folder.path, tmp_path / "wrong.onnx")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["wrong.proof.json", "wrong.proof.txt"]
    assert "FAILED" in (tmp_path / "wrong.proof.txt").read_text()


def test_quantisation_that_costs_too_much_is_refused(quick_run, network, tmp_path, monkeypatch):
    monkeypatch.setattr("trivet.export.network.export_network", lambda *_: network)
    done = export_model(quick_run.folder.path, tmp_path / "int8.onnx", int8=True)
    assert done.proof.precision == "int8"
    assert done.path.stat().st_size < 0.5 * len(network.SerializeToString())
    assert open_onnx(done.path).facts.precision == "int8"
    assert done.proof.ms_fp32 > 0
    assert "in 8 bits" not in done.proof.text()
    # what it costs is the score's fall, and any fall is too much here
    with pytest.raises(ExportError, match=r"in 8 bits the mAP falls from 0\.\d+ to 0\.\d+, by more than -1"):
        export_model(quick_run.folder.path, tmp_path / "worse.onnx", int8=True, most_loss=-1.0)
    assert not (tmp_path / "worse.onnx").exists()


def _external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def _external_in_a_branch(proto: onnx.ModelProto) -> None:
    branch = next(node for node in proto.graph.node if node.op_type == "If").attribute[0].g
    tensor = branch.initializer[0]
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_in_a_constant(proto: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    proto.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def _own_operators(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("evil", 1))


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
        (_external, "is kept in another file"),
        (_external_in_a_branch, "is kept in another file"),
        (_external_in_a_constant, "is kept in another file"),
        (_own_operators, "brings operators of its own"),
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
def test_files_that_are_not_ours_are_refused(exported, spoil, message):
    proto = onnx.load(exported.path)
    spoil(proto)
    with pytest.raises(UsageError, match=message):
        check_file(proto.SerializeToString(), source="spoilt.onnx")


def test_damaged_and_foreign_files_are_refused(exported, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.path.read_bytes()[:100_000])
    with pytest.raises(UsageError, match="is not a whole ONNX file"):
        open_onnx(path)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="was not made by trivet export"):
        open_onnx(path)
    with pytest.raises(UsageError, match="cannot read"):
        open_onnx(tmp_path / "absent.onnx")
    proto = onnx.load(exported.path)
    proto.graph.node[5].op_type = "Nonsense"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match="ONNX Runtime cannot use it"):
        open_onnx(path)

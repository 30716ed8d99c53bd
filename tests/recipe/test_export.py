"""Export through the verb: the file, its proof, and what predicts with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from trivet.cli.app import run as trivet
from trivet.errors import ExportError, UsageError
from trivet.export.compare_boxes import compare_boxes
from trivet.export.facts import KEY
from trivet.export.network import export_network
from trivet.export.reading import open_onnx
from trivet.recipe.backends import OnnxBackend, TorchBackend, choose_backend
from trivet.recipe.export import export_model
from trivet.recipe.predict import predict
from trivet.recipe.run_folder import load_run

pytestmark = pytest.mark.slow  # PyTorch takes seconds to translate the smallest network


@pytest.fixture(scope="module")
def run_path(quick_run, tmp_path_factory) -> Path:
    """A copy of a run: tests elsewhere predict with PyTorch, and look at the folder."""
    return Path(shutil.copytree(quick_run.folder.path, tmp_path_factory.mktemp("exported") / "quick"))


@pytest.fixture(scope="module")
def network(run_path):
    """The network's translation, which is what takes long."""
    return export_network(load_run(run_path).model, (64, 96))


@pytest.fixture(scope="module")
def exported(run_path, network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trivet.export.network.export_network", lambda *_: network)
        return export_model(run_path, licence="CC-BY-4.0")


def test_a_detector_says_the_same_in_one_file(exported, run_path):
    proof = exported.proof
    assert exported.path == run_path / "model.onnx"
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
def test_images_of_any_size_and_batches_of_one_size(exported, run_path, image_hw):
    images = list(np.random.default_rng(0).integers(0, 256, (3, *image_hw, 3), dtype=np.uint8))
    file, run = open_onnx(exported.path, threads=1), TorchBackend(load_run(run_path))
    task = run.run.task
    for one, other in zip(file.predict(images), run.predict(images), strict=True):
        # random weights give scores that are equal but for rounding, and so an order that is not the same
        found = compare_boxes(other, one, nms_iou=0.5, score_threshold=task.score_threshold, most=task.most)
        assert found.faults == ()
        assert found.pairs >= 0.95 * len(other)
        assert found.pixels < 0.02
        assert found.scores < 1e-5


@pytest.mark.parametrize("image_hw", [(64, 96), (128, 192)])
def test_openvino_runs_the_file_too(exported, image_hw):
    openvino = pytest.importorskip("openvino")
    images = np.random.default_rng(1).integers(0, 256, (2, *image_hw, 3), dtype=np.uint8)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    said = core.compile_model(core.read_model(exported.path), "CPU", exact)(images)
    _, scores, _, counts = (said[place] for place in range(4))
    for one, count, line in zip(
        open_onnx(exported.path, threads=1).predict(list(images)), counts, scores, strict=True
    ):
        # random weights give scores that are equal but for rounding, and so an order that is not the same
        assert count == len(one)
        np.testing.assert_allclose(line[:count], one.scores.numpy(), atol=1e-5)


def test_an_export_predicts_where_there_is_no_gpu(exported, run_path, digits):
    run = load_run(run_path)
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


def test_an_export_of_other_weights_is_not_used(exported, run_path, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("recipe.toml", "labels.json", "best.safetensors", "model.onnx"):
        (folder / name).write_bytes((run_path / name).read_bytes())
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


def test_the_verbs(exported, run_path, digits, capsys):
    images = str(digits / "images" / "test")
    assert trivet(["predict", str(exported.path), images, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 4
    assert trivet(["predict", str(exported.path), images, "--backend", "torch"]) == 2
    assert "is for ONNX Runtime" in capsys.readouterr().err
    assert trivet(["predict", str(exported.path), images, "--last"]) == 2
    assert trivet(["predict", str(run_path), images, "--backend", "tensorrt"]) == 2
    assert "unknown backend 'tensorrt'" in capsys.readouterr().err
    assert trivet(["export", str(run_path), "--to", "tflite"]) == 2
    assert "unknown form of export 'tflite'" in capsys.readouterr().err
    assert trivet(["export", str(run_path), "--out", "nowhere/model.onnx"]) == 2


def test_a_file_that_says_something_else_is_not_kept(run_path, network, tmp_path, monkeypatch):
    """The pixels are shifted by one level beyond the tolerance: the proof names the letterboxing."""
    from trivet.export import letterbox_nodes

    right = letterbox_nodes._weighted_rows

    def wrong(graph, *given):
        return graph.op("Mul", right(graph, *given), np.float32(0.8))

    monkeypatch.setattr(letterbox_nodes, "_weighted_rows", wrong)
    monkeypatch.setattr("trivet.export.network.export_network", lambda *_: network)
    with pytest.raises(ExportError, match="first at: letterboxed image"):
        export_model(run_path, tmp_path / "wrong.onnx")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["wrong.proof.json", "wrong.proof.txt"]
    assert "FAILED" in (tmp_path / "wrong.proof.txt").read_text()


def test_quantisation_that_costs_too_much_is_refused(run_path, network, tmp_path, monkeypatch):
    monkeypatch.setattr("trivet.export.network.export_network", lambda *_: network)
    done = export_model(run_path, tmp_path / "int8.onnx", int8=True)
    assert done.proof.precision == "int8"
    assert done.path.stat().st_size < 0.5 * len(network.SerializeToString())
    assert open_onnx(done.path).facts.precision == "int8"
    assert done.proof.ms_fp32 > 0
    text = done.proof.text()
    assert "in 8 bits" not in text
    assert "before quantisation:" in text
    assert "boxes equal" not in text
    assert "only PyTorch has" not in text
    # what it costs is the score's fall, and any fall is too much here
    with pytest.raises(ExportError, match=r"in 8 bits the mAP falls from 0\.\d+ to 0\.\d+, by more than -1"):
        export_model(run_path, tmp_path / "worse.onnx", int8=True, most_loss=-1.0)
    assert not (tmp_path / "worse.onnx").exists()

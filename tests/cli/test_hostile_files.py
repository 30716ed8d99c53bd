"""Files from strangers: each is refused with one error, and nothing in it runs."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.export.tiny_file import kept_elsewhere, own_operators, written
from trivet.cli.app import run


class Bomb:
    """Makes a folder when it is read as a pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def run_path(quick_run, tmp_path) -> Path:
    return Path(shutil.copytree(quick_run.folder.path, tmp_path / "run"))


def refused(arguments, capsys) -> str:
    """Run, and return the one error that was told."""
    assert run([str(item) for item in arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("error:") == 1
    assert "Traceback" not in told
    return " ".join(told.split())


def with_a_wrong_shape(path: Path) -> None:
    """Give one tensor of a file another row, its metadata as before."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    name = next(name for name, tensor in tensors.items() if name.startswith("backbone.") and tensor.ndim == 4)
    tensors[name] = torch.cat([tensors[name], tensors[name][:1]])
    save_file(tensors, path, metadata=metadata)


def test_a_pickle_that_would_run_code_is_not_read(digits, tmp_path, capsys):
    marker, weights = tmp_path / "ran", tmp_path / "weights.pth"
    torch.save({"state_dict": {"weight": torch.zeros(2), "more": Bomb(marker)}}, weights)
    told = refused(["fit", digits, "--from", weights, "--out", tmp_path / "runs"], capsys)
    assert "refused, for it holds more than tensors and plain data" in told
    assert not (tmp_path / "runs").exists(), "nothing is left behind"
    refused(["predict", weights, digits / "images" / "test"], capsys)
    refused(["score", weights, digits], capsys)
    assert not marker.exists()


def test_a_pickle_in_the_place_of_a_runs_weights_is_not_read(run_path, digits, tmp_path, capsys):
    marker = tmp_path / "ran"
    torch.save(Bomb(marker), run_path / "best.safetensors")
    for verb in (["predict", run_path, digits / "images" / "test"], ["score", run_path]):
        assert "not a whole safetensors file" in refused(verb, capsys)
    assert not marker.exists()


def test_weights_of_wrong_shapes_are_refused(run_path, digits, tmp_path, capsys):
    with_a_wrong_shape(run_path / "best.safetensors")
    for verb in (
        ["predict", run_path, digits / "images" / "test"],
        ["score", run_path],
        ["fit", digits, "--from", run_path, "--out", tmp_path / "runs"],
    ):
        assert "of another shape 1" in refused(verb, capsys)
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


@pytest.mark.parametrize("where", ["secret.bin", "../secret.bin", "/etc/passwd", "C:\\secret.bin"])
def test_a_model_that_reads_other_files_is_refused(where, digits, tmp_path, capsys):
    (tmp_path / "secret.bin").write_bytes(bytes(36))
    path = written(tmp_path / "model.onnx", kept_elsewhere(where))
    assert "is kept in another file" in refused(["predict", path, digits / "images" / "test"], capsys)


def test_a_model_with_operators_of_its_own_is_refused(digits, tmp_path, capsys):
    path = written(tmp_path / "model.onnx", own_operators)
    assert "operators of its own" in refused(["predict", path, digits / "images" / "test"], capsys)
    assert run(["predict", str(written(path)), str(digits / "images" / "test")]) == 0

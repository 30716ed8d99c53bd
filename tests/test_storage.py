"""Files are whole or not there, whatever happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trivet.errors import StorageError
from trivet.storage import UNFINISHED, whole_file
from trivet.train.checkpoint import read_checkpoint, write_checkpoint


def test_a_file_is_replaced_once_it_is_complete(tmp_path):
    target = tmp_path / "scores.json"
    target.write_text("old")
    with whole_file(target) as unfinished:
        unfinished.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError), whole_file(target) as unfinished:
        unfinished.write_text("half of it, then \ud800", encoding="utf-8")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_what_a_kill_left_is_overwritten(tmp_path):
    (tmp_path / f".scores.json{UNFINISHED}").write_text("left by a kill, and longer than what comes")
    with whole_file(tmp_path / "scores.json") as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "scores.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with (
        pytest.raises(StorageError, match=r"cannot write .*nowhere.*No such file"),
        whole_file(tmp_path / "nowhere" / "scores.json") as unfinished,
    ):
        unfinished.write_text("new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"), whole_file(tmp_path / "a") as unfinished:
        unfinished.write_text("new")


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from trivet.errors import StorageError
from trivet.train.checkpoint import write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a file may not grow beyond: as on a full disk
try:
    write_checkpoint(Path(sys.argv[1]), {"model.a": torch.ones(100_000)}, {"step": 2})
except StorageError as fault:
    print(fault.message)
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "last" / "state.safetensors"
    write_checkpoint(path, {"model.a": torch.zeros(100)}, {"step": 1})
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert f"cannot write {path}" in done.stdout
    assert "File too large" in done.stdout
    assert "the file that was there is unchanged" in done.stdout
    tensors, facts = read_checkpoint(path)
    assert facts == {"step": 1}
    assert torch.equal(tensors["model.a"], torch.zeros(100))
    assert [one.name for one in path.parent.iterdir()] == ["state.safetensors"]


def test_paths_are_taken_as_text_too(tmp_path):
    with whole_file(str(tmp_path / "a.txt")) as unfinished:
        unfinished.write_text("text")
    assert Path(tmp_path / "a.txt").read_text() == "text"

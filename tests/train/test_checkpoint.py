import pytest
import torch
from safetensors.torch import save_file

from tests.train.tiny import TinyModel, tiny_job, tiny_model
from trivet.errors import UsageError
from trivet.train.checkpoint import read_checkpoint, write_checkpoint
from trivet.train.loop import train


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "last" / "state.safetensors"
    write_checkpoint(path, {"a": torch.arange(3), "b": torch.zeros(2, 2)[:, :1]}, {"step": 3, "none": None})
    tensors, facts = read_checkpoint(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert tensors["b"].shape == (2, 1)
    assert facts == {"step": 3, "none": None}
    assert [item.name for item in path.parent.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_cut_off_file_is_refused(tmp_path, kept):
    path = tmp_path / "state.safetensors"
    write_checkpoint(path, {"a": torch.zeros(1000)}, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"(?s)state\.safetensors cannot be read.*cut off or damaged"):
        read_checkpoint(path)


def test_another_safetensors_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="is not a Trivet checkpoint"):
        read_checkpoint(tmp_path / "weights.safetensors")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tiny_model(), tiny_job(tmp_path))
    other = TinyModel()
    other.head = torch.nn.Conv2d(4, 2, 1)
    with pytest.raises(
        UsageError, match=r"0 tensors missing, 0 unknown, 2 of another shape; the first is 'head\.bias'"
    ):
        train(other, tiny_job(tmp_path), resume=True)

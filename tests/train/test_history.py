import pytest

from trivet.errors import UsageError
from trivet.train.history import History, read_history


def test_rows_are_on_the_disk_at_once(tmp_path):
    history = History(tmp_path / "history.jsonl")
    history.add({"step": 1, "loss": 0.5})
    assert read_history(tmp_path / "history.jsonl") == [{"step": 1, "loss": 0.5}]


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    first = History(tmp_path / "history.jsonl")
    for step in (1, 2, 3):
        first.add({"step": step})
    again = History(tmp_path / "history.jsonl", until_step=2)
    again.add({"step": 3, "again": 1})
    assert read_history(tmp_path / "history.jsonl") == [{"step": 1}, {"step": 2}, {"step": 3, "again": 1}]


def test_a_last_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_history(path) == [{"step": 1}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(UsageError, match=r"history\.jsonl line 2 is not JSON: 'nonsense'"):
        read_history(path)

import json

from trivet.cli.app import run


def test_a_run_is_scored_on_its_test_split(quick_run, capsys):
    assert run(["score", str(quick_run.folder.path), "--json", "-"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["images"] == 4
    assert {"map", "map50", "map75", "by_size", "per_class", "interval95", "task"} <= scores.keys()


def test_text_names_every_class(quick_run, capsys):
    assert run(["score", str(quick_run.folder.path), "--split", "val", "--bootstrap", "0"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("zero", "one", "two", "mAP50"))


def test_a_split_that_is_not_there(quick_run, capsys):
    assert run(["score", str(quick_run.folder.path), "--split", "holdout"]) == 2
    assert "no split 'holdout'" in capsys.readouterr().err

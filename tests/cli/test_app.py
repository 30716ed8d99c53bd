import json

import pytest

from trivet.cli.app import run
from trivet.cli.options import parse_settings
from trivet.errors import UsageError

VERBS = ["fit", "score", "predict", "audit", "models", "demo"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert run([verb, "--help"]) == 0
    assert "Usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["fitt"], "No such command 'fitt'", "trivet --help"),
        (["fit", "--lrr", "3"], "No such option", "trivet fit --help"),
        (["fit", "--minutes", "soon"], "Invalid value for '--minutes'", "trivet fit --help"),
        (["fit"], "no data set was given", "trivet fit DATA"),
        (["fit", "nowhere"], "nowhere", None),
        (
            ["fit", "x", "--size", "big"],
            "--size is a number of pixels from 32 to 8192, got 'big'",
            "--size 384x512",
        ),
        (["fit", "x", "--set", "train.lr"], "--set takes KEY=VALUE, got 'train.lr'", "--set train.lr=0.001"),
        (
            ["fit", "x", "--set", "train.lrr=1"],
            "unknown recipe key 'train.lrr'; did you mean 'train.lr'?",
            "known: ",
        ),
        (["fit", "--resume", "x", "--lr", "1"], "train.lr was given too", "--from"),
        (["fit", "--resume", "x"], "x is not a run folder", "trivet fit"),
        (["models", "efficientdet_lite9"], "did you mean 'efficientdet_lite", "known: "),
        (["score", "x.safetensors"], "x.safetensors is neither a run folder nor predictions", "COCO results"),
        (["score", "nowhere.json"], "no data set was given", "trivet score PREDICTIONS DATA"),
        (["predict", "nowhere", "picture.jpg"], "nowhere is not a run folder", "trivet fit"),
    ],
)
def test_misuse_is_one_error_and_one_hint(arguments, error, hint, capsys):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert error in shown.err
    assert hint is None or ("\nhint: " in shown.err and hint in shown.err)
    assert "Traceback" not in shown.err


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="unknown model"):
        run(["models", "efficientdet_lite9", "--debug"])


def test_models_as_json(capsys):
    assert run(["models", "efficientdet_d0", "--json", "-"]) == 0
    [entry] = json.loads(capsys.readouterr().out)["models"]
    assert (entry["name"], entry["size"]) == ("efficientdet_d0", 512)


def test_models_lists_the_family(capsys):
    assert run(["models"]) == 0
    shown = capsys.readouterr().out
    assert "tf_efficientdet_d7x" in shown
    assert "77,147,166" in shown


def test_one_entry_of_a_table_can_be_set():
    pairs = ["model.options.width=0.25", "model.options.activation=silu", "train.lr=0.1"]
    assert parse_settings(pairs) == {"model.options": {"width": 0.25, "activation": "silu"}, "train.lr": 0.1}
    assert parse_settings(['model.options={"width": 1}', "model.options.levels=[2, 5]"]) == {
        "model.options": {"width": 1, "levels": [2, 5]}
    }
    with pytest.raises(UsageError, match="given as 3, which has no entries"):
        parse_settings(["model.options=3", "model.options.width=1"])

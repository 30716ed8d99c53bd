import pytest

from trivet.errors import UsageError
from trivet.recipe.recipe import Chosen, known_keys, make_recipe, read_recipe, write_recipe

VALUES = {
    "data.path": "cells",
    "model.name": "efficientdet_lite0",
    "model.size_hw": (384, 512),
    "model.options": {"anchor_scale": 2.0},
    "train.epochs": 12,
    "train.lr": 0.002,
    "augment.strength": "light",
    "machine.devices": 1,
}


def test_a_recipe_comes_back_from_its_file(tmp_path):
    recipe = make_recipe(VALUES, {"train.lr": Chosen(by="automatic", why='because of "reasons"\nand more')})
    write_recipe(recipe, tmp_path / "recipe.toml")
    values, chosen = read_recipe(tmp_path / "recipe.toml")
    assert make_recipe(values, chosen) == recipe
    assert [item.name for item in tmp_path.iterdir()] == ["recipe.toml"]


def test_every_key_is_known_by_its_section():
    keys = known_keys()
    assert {"data.path", "model.size_hw", "train.lr", "train.minutes", "machine.devices"} <= keys.keys()
    assert all(key.count(".") == 1 for key in keys)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.lrr": 1}, r"unknown recipe key 'train\.lrr'; did you mean 'train\.lr'"),
        ({"train.lr": "fast"}, r"recipe key train\.lr: .*valid number.*got 'fast'"),
        ({"train.lr": -1}, r"recipe key train: lr must be above 0, got -1"),
        ({"data.val_share": 2}, r"recipe key data\.val_share: .*less than 1; got 2"),
        ({"model.size_hw": [1, 2, 3]}, r"recipe key model\.size_hw: "),
        ({"data.on_bad": "ignore"}, r"recipe key data\.on_bad: .*'error' or 'skip'; got 'ignore'"),
    ],
)
def test_values_that_do_not_fit(values, message):
    with pytest.raises(UsageError, match=message):
        make_recipe(VALUES | values)


def test_a_missing_key_is_named():
    with pytest.raises(UsageError, match=r"recipe key data\.path: Field required"):
        make_recipe({key: value for key, value in VALUES.items() if key != "data.path"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nlrr = 1\n", r"unknown recipe key 'train\.lrr'; did you mean 'train\.lr'"),
        ("[trian]\nlr = 1\n", "unknown recipe section 'trian'; did you mean 'train'"),
        ("lr = 1\n", "unknown recipe section 'lr'"),
        ("[train\n", r"recipe\.toml is not TOML"),
        ("[chosen]\n'train.lr' = 3\n", r"\[chosen\] holds tables of 'by' and 'why'"),
    ],
)
def test_a_recipe_file_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_recipe(path)


def test_a_recipe_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the recipe .*none\.toml: No such file"):
        read_recipe(tmp_path / "none.toml")

"""What a recipe says of mixing and the remedies it uses."""

import pytest

from trivet.data.class_mix import ClassMix
from trivet.data.mix import Mix
from trivet.errors import UsageError
from trivet.recipe.overfitting import remedies_on
from trivet.recipe.recipe import make_recipe
from trivet.recipe.run import mix_of


def recipe(kind, **values):
    base = {"data.path": "x", "model.size_hw": (32, 32), "train.epochs": 1, "task.kind": kind}
    return make_recipe(base | {key.replace("__", "."): value for key, value in values.items()})


def test_each_task_mixes_in_its_own_ways():
    assert mix_of(recipe("detection")) is None
    assert mix_of(recipe("detection", augment__mosaic=0.5, augment__mixup=0.1)) == Mix(mosaic=0.5, mixup=0.1)
    assert mix_of(recipe("segmentation", augment__mosaic=0.5)) == Mix(mosaic=0.5, mixup=0.0)
    assert mix_of(recipe("classification", augment__cutmix=0.5)) == ClassMix(mixup=0.0, cutmix=0.5)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("detection", "cutmix"),
        ("segmentation", "mixup"),
        ("segmentation", "cutmix"),
        ("classification", "mosaic"),
    ],
)
def test_what_a_task_cannot_mix_is_refused(kind, way):
    with pytest.raises(UsageError, match=rf"augment\.{way} does not serve {kind}, got 0\.5"):
        mix_of(recipe(kind, **{f"augment__{way}": 0.5}))


def test_remedies_in_use_are_not_proposed_again():
    plain = recipe("classification", augment__strength="none", train__weight_decay=0.0, train__ema=0.0)
    assert remedies_on(plain) == []
    full = recipe(
        "classification",
        augment__strength="strong",
        augment__cutmix=0.5,
        task__options={"label_smoothing": 0.1},
    )
    assert remedies_on(full) == [
        "crop_flip",
        "cutout",
        "regularised_optimizer",
        "label_smoothing",
        "mix",
        "ema",
    ]


def test_what_mixes_classes_is_not_proposed_for_masks():
    plain = recipe("segmentation", augment__strength="none", train__weight_decay=0.0, train__ema=0.0)
    assert remedies_on(plain) == ["cutout", "mix"]

import pytest
import torch

from tests.data.tables import table
from trivet.errors import UsageError
from trivet.recipe.choose_classification import choose_classification
from trivet.recipe.choose_common import choose_budget
from trivet.recipe.choose_detection import choose_anchors, choose_model, choose_size, choose_training
from trivet.recipe.choose_segmentation import choose_segmentation
from trivet.recipe.draft import Draft
from trivet.recipe.fingerprint import Fingerprint
from trivet.recipe.machine import Machine, look_at_machine
from trivet.recipe.prepare import prepare_run

CPU = Machine("cpu", 16.0, 2, False)
GPU = Machine("cuda", 12.0, 8, True)
CELLS = Fingerprint(205, 2740, 3, (480, 640), 0.06, 25, 240)


def chosen(facts=CELLS, machine=CPU, boxes_wh=((40.0, 40.0),), **given):
    draft = Draft({"data.path": "cells", **{key.replace("__", "."): value for key, value in given.items()}})
    choose_model(draft, machine)
    choose_budget(draft, facts.images)
    choose_size(draft, facts, machine)
    choose_anchors(draft, torch.tensor(boxes_wh).reshape(-1, 2))
    choose_training(draft, facts, machine)
    return draft.recipe()


def test_everything_is_chosen_with_a_reason():
    recipe = chosen()
    assert recipe.model.name == "efficientdet_lite0"
    assert recipe.train.epochs == 100
    automatic = {key: who for key, who in recipe.chosen.items() if who.by == "automatic"}
    assert {"model.name", "model.size_hw", "train.batch", "train.lr", "train.epochs"} <= automatic.keys()
    assert all(who.why for who in automatic.values())
    assert recipe.chosen["data.path"].by == "given"


def test_what_is_given_stays():
    recipe = chosen(model__size_hw=(200, 264), train__lr=0.5, train__minutes=3.0, train__batch=2)
    assert (recipe.model.size_hw, recipe.train.lr) == ((200, 264), 0.5)
    assert (recipe.train.minutes, recipe.train.epochs, recipe.train.batch) == (3.0, None, 2)


def test_the_input_has_the_images_shape_and_grows_with_the_budget():
    sizes = [chosen(train__minutes=minutes).model.size_hw for minutes in (2.0, 15.0, 60.0, 600.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] != sizes[-1]
    for height, width in sizes:
        assert height % 32 == width % 32 == 0
        assert abs(width / height - 640 / 480) < 0.2


def test_large_objects_need_no_large_input():
    large = Fingerprint(205, 2740, 3, (480, 640), 0.5, 5, 240)
    assert max(chosen(large, train__minutes=600.0).model.size_hw) < max(
        chosen(train__minutes=600.0).model.size_hw
    )


@pytest.mark.parametrize("images", [1, 3, 40, 100_000])
@pytest.mark.parametrize("boxes", [0, 500])
def test_any_number_of_images_gives_a_recipe(images, boxes):
    facts = Fingerprint(images, boxes, 1, (37, 2000), 0.01 if boxes else 0.0, 1, 0)
    recipe = chosen(facts)
    assert 1 <= recipe.train.batch <= 8
    assert 12 <= (recipe.train.epochs or 0) <= 150
    assert min(recipe.model.size_hw) >= 128


def test_a_gpu_gets_a_larger_model_and_bfloat16():
    recipe = chosen(machine=GPU)
    assert recipe.model.name == "tf_efficientdet_d1"
    assert (recipe.train.precision, recipe.machine.accelerator) == ("bf16", "cuda")


def test_anchors_fit_small_objects():
    recipe = chosen(boxes_wh=[(14.0, 14.0)] * 50)
    assert recipe.model.options["anchor_scale"] < 3
    assert "anchors meet 0% of boxes, with scale" in recipe.chosen["model.options"].why


def test_anchors_that_fit_are_left_and_given_ones_stay():
    assert chosen(boxes_wh=[(40.0, 40.0)] * 50).model.options == {}
    given = {"anchor_scale": 2.5}
    assert chosen(boxes_wh=[(14.0, 14.0)], model__options=given).model.options == given
    assert chosen(boxes_wh=[]).model.options == {}


YOLO = {"model__name": "yolov4"}
CELLS_WH = [(20.0, 21.0)] * 40 + [(14.0, 12.0)] * 20 + [(40.0, 38.0)] * 20


def test_yolo_gets_the_shapes_of_the_boxes():
    recipe = chosen(boxes_wh=CELLS_WH, **YOLO)
    shapes = recipe.model.options["anchors"]
    assert len(shapes) == 9
    assert {(20.0, 21.0), (14.0, 12.0), (40.0, 38.0)} == set(shapes)
    assert recipe.chosen["model.options"].by == "automatic"
    assert "clusters of the boxes with 1.00" in recipe.chosen["model.options"].why


def test_yolo_starts_from_nothing_and_keeps_its_own_losses():
    recipe = chosen(**YOLO)
    assert (recipe.model.pretrained, recipe.task.options) == (False, {})
    assert "no ImageNet weights of cspdarknet53_mish" in recipe.chosen["model.pretrained"].why
    assert recipe.train.backbone_lr == recipe.train.lr < chosen().train.lr


def test_yolos_other_options_leave_room_for_its_shapes():
    recipe = chosen(boxes_wh=CELLS_WH, model__options={"width": 0.25}, **YOLO)
    assert recipe.model.options["width"] == 0.25
    assert len(recipe.model.options["anchors"]) == 9
    assert recipe.chosen["model.options"].by == "given"
    given = {"anchors": ((10.0, 10.0),) * 3}
    assert chosen(boxes_wh=CELLS_WH, model__options=given, **YOLO).model.options == given
    assert chosen(boxes_wh=CELLS_WH, model__pretrained="yolov4.weights", **YOLO).model.options == {}
    assert chosen(boxes_wh=[], **YOLO).model.options == {}


def test_a_yolo_head_of_parts_gets_them_too():
    parts = {"model__backbone": "resnet18", "model__head": "yolo"}
    assert len(chosen(boxes_wh=CELLS_WH, **parts).model.options["anchors"]) == 9


def test_weights_of_a_whole_detector_keep_their_anchors():
    assert chosen(boxes_wh=[(14.0, 14.0)], model__pretrained="detector.pth").model.options == {}


def test_an_unknown_key_is_refused():
    with pytest.raises(UsageError, match=r"unknown recipe key 'train\.learning_rate'"):
        Draft({"train.learning_rate": 1})


def test_a_value_of_another_type_is_refused():
    with pytest.raises(UsageError, match=r"recipe key model\.size_hw: .*; got \[64\]"):
        Draft({"model.size_hw": [64]})


def small_pictures(machine, **given):
    draft = Draft(
        {"data.path": "pictures", **{key.replace("__", "."): value for key, value in given.items()}}
    )
    choose_classification(draft, table(*[[]] * 2000, size_hw=(32, 32)), machine)
    return draft.recipe()


def test_small_pictures_get_the_width_that_the_budget_can_train():
    fast = Machine("cpu", 16.0, 2, True)
    names = [small_pictures(CPU, train__minutes=minutes).model.name for minutes in (0.2, 60.0)]
    assert names == ["compact", "compact_wide"]
    assert small_pictures(CPU, train__epochs=10).model.name == "compact"
    assert small_pictures(fast, train__epochs=10).model.name == "compact_wide"
    assert small_pictures(CPU, model__name="regnet_bifpn").model.name == "regnet_bifpn"


def test_a_cpu_with_matrix_units_uses_bfloat16_for_dense_networks_alone():
    fast = Machine("cpu", 16.0, 2, True)
    assert small_pictures(fast).train.precision == "bf16"
    assert small_pictures(CPU).train.precision == "32"
    assert small_pictures(fast, train__precision="32").train.precision == "32"
    separable = small_pictures(fast, model__name="regnet_bifpn")
    assert separable.train.precision == "32"
    assert "little of this network" in separable.chosen["train.precision"].why
    assert chosen(machine=fast).train.precision == "32"


def test_dense_segmenters_use_bfloat16_on_such_a_cpu():
    fast, train = Machine("cpu", 16.0, 2, True), table(*[[]] * 40, size_hw=(96, 128))
    for name, precision in (("deconvnet_vgg16_bn", "bf16"), ("semantic_fpn_lite0", "32")):
        draft = Draft({"data.path": "roads", "model.name": name, "train.epochs": 2})
        choose_segmentation(draft, train, fast)
        assert draft.recipe().train.precision == precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, True), ({"amx_bf16": False, "avx512_bf16": True}, True), ({"avx2": True}, False)],
)
def test_a_processor_that_multiplies_bfloat16_is_known_by_its_instructions(
    monkeypatch, capabilities, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert look_at_machine().bf16 is expected


def test_choices_reckon_with_the_threads_that_training_has(monkeypatch, digits, tmp_path):
    seen = []
    monkeypatch.setattr("trivet.recipe.prepare.look_at_machine", lambda: Machine("cpu", 16.0, 64, False))
    monkeypatch.setattr("trivet.recipe.prepare.choose", lambda draft, splits, machine: seen.append(machine))
    for threads in (0, 3):
        values = {"machine.threads": threads, "train.epochs": 1, "model.size_hw": (96, 96)}
        prepare_run(digits, values, out=tmp_path)
    assert [machine.cores for machine in seen] == [torch.get_num_threads(), 3]

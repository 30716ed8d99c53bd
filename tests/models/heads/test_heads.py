"""What every head of the table must do."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from trivet.models.heads import HEADS
from trivet.structures import TASKS, AnchorOutput, FeatureSpec

FEATURES = tuple(FeatureSpec(16, stride) for stride in (8, 16, 32))
SIZES = ((9, 13), (5, 7), (3, 4))
LEVELS = {"large_fov": 1}  # that a head takes; the others take any number


def build(name, **options):
    torch.manual_seed(0)
    return HEADS[name](FEATURES[: LEVELS.get(name)], **{"classes": 3, **options})


def maps(name, batch=2):
    return tuple(torch.randn(batch, 16, *size) for size in SIZES[: LEVELS.get(name)])


@pytest.mark.parametrize("name", HEADS)
class TestEveryHead:
    def test_gives_what_its_task_wants(self, name):
        head = build(name).eval()
        output = head(maps(name))
        assert head.task in TASKS
        if head.task == "detection":
            assert isinstance(output, AnchorOutput)
            slots = head.anchor_spec.per_cell
            assert [tuple(x.shape) for x in output.class_logits] == [(2, slots * 3, *size) for size in SIZES]
            assert [tuple(x.shape) for x in output.box_deltas] == [(2, slots * 4, *size) for size in SIZES]
            if output.objectness:
                assert [tuple(x.shape) for x in output.objectness] == [(2, slots, *size) for size in SIZES]
        elif head.task == "segmentation":
            assert tuple(output.shape) == (2, 3, *SIZES[0])
            assert head.stride == FEATURES[0].stride
        else:
            assert tuple(output.shape) == (2, 3)

    def test_every_parameter_gets_a_gradient(self, name):
        head = build(name)
        sum(x.square().sum() for x in tree_leaves(head(maps(name)))).backward()
        assert not [key for key, parameter in head.named_parameters() if parameter.grad is None]

    def test_class_rows_are_the_rows_that_depend_on_the_classes(self, name):
        few, many = build(name, classes=2).state_dict(), build(name, classes=5).state_dict()
        assert few.keys() == many.keys()
        differing = {key for key in few if few[key].shape != many[key].shape}
        head = build(name)
        assert differing == set(head.class_rows)
        assert all(few[key].shape[0] == head.class_rows[key] * 2 for key in differing)

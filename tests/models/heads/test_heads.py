"""What every head of the table must do."""

import pytest
import torch

from trivet.models.blocks import Style
from trivet.models.heads import HEADS
from trivet.structures import AnchorOutput, FeatureSpec

FEATURES = tuple(FeatureSpec(16, stride) for stride in (8, 16, 32))
SIZES = ((9, 13), (5, 7), (3, 4))


def build(name, **options):
    torch.manual_seed(0)
    return HEADS[name](FEATURES, **{"classes": 3, **options})


def maps(batch=1):
    return tuple(torch.randn(batch, 16, *size) for size in SIZES)


@pytest.mark.parametrize("name", HEADS)
class TestEveryHead:
    def test_gives_every_cell_of_every_level(self, name):
        output = build(name).eval()(maps(batch=2))
        assert isinstance(output, AnchorOutput)
        assert [tuple(x.shape) for x in output.class_logits] == [(2, 27, *size) for size in SIZES]
        assert [tuple(x.shape) for x in output.box_deltas] == [(2, 36, *size) for size in SIZES]

    @pytest.mark.parametrize("style", [Style(), Style(norm="gn", separable=False)], ids=["bn", "gn"])
    def test_every_parameter_gets_a_gradient(self, name, style):
        head = build(name, style=style)
        output = head(maps(batch=2))
        sum(x.square().sum() for x in (*output.class_logits, *output.box_deltas)).backward()
        assert not [key for key, parameter in head.named_parameters() if parameter.grad is None]

    def test_class_rows_are_the_rows_that_depend_on_the_classes(self, name):
        few, many = build(name, classes=2).state_dict(), build(name, classes=5).state_dict()
        assert few.keys() == many.keys()
        differing = {key for key in few if few[key].shape != many[key].shape}
        head = build(name)
        assert differing == set(head.class_rows)
        assert all(few[key].shape[0] == head.class_rows[key] * 2 for key in differing)

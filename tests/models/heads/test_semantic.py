import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trivet.errors import UsageError
from trivet.models.blocks import Style
from trivet.models.count import count_parameters
from trivet.models.heads.semantic import MERGES, SemanticHead
from trivet.structures import FeatureSpec

EQUAL = tuple(FeatureSpec(8, stride) for stride in (4, 8, 16))
GROWING = tuple(FeatureSpec(channels, stride) for channels, stride in ((4, 4), (6, 8), (8, 16)))
SIZES = ((8, 12), (4, 6), (2, 3))


def maps(features, batch=2):
    torch.manual_seed(1)
    return [torch.randn(batch, f.channels, *size) for f, size in zip(features, SIZES, strict=True)]


def bilinear_double(x):
    """Twice the size by the four-tap rule: 3/4 of the nearer cell and 1/4 of the farther, borders repeated."""
    for axis in (2, 3):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        before = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], axis)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1).flatten(axis, axis + 1)
    return x


def test_the_sum_of_levels_is_classified():
    head = SemanticHead(EQUAL[:2], classes=3, mask_layers=0)
    fine, coarse = maps(EQUAL)[:2]
    summed = fine + bilinear_double(coarse)
    expected = torch.einsum("oc,bchw->bohw", head.classifier.weight[:, :, 0, 0], summed)
    torch.testing.assert_close(head([fine, coarse]), expected + head.classifier.bias.view(1, -1, 1, 1))


def test_concat_classifies_the_stacked_levels():
    head = SemanticHead(GROWING[:2], classes=3, mask_layers=0, merge="concat")
    fine, coarse = maps(GROWING)[:2]
    stacked = torch.cat([fine, bilinear_double(coarse)], 1)
    torch.testing.assert_close(head([fine, coarse]), head.classifier(stacked))


def test_one_map_without_convolutions_is_a_plain_classifier():
    head = SemanticHead(EQUAL[:1], classes=5, mask_layers=0)
    assert count_parameters(head) == 8 * 5 + 5
    x = maps(EQUAL)[0]
    torch.testing.assert_close(head([x]), F.conv2d(x, head.classifier.weight, head.classifier.bias))


@pytest.mark.parametrize("features", [EQUAL, GROWING], ids=["equal", "growing"])
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("mask_layers", [0, 2])
@pytest.mark.parametrize(
    "style", [Style(), Style(norm="gn", separable=False, activation="relu")], ids=["bn", "gn"]
)
def test_every_combination_trains(features, merge, mask_layers, style):
    head = SemanticHead(features, classes=3, channels=16, mask_layers=mask_layers, merge=merge, style=style)
    output = head(maps(features))
    assert output.shape == (2, 3, 8, 12)
    output.square().sum().backward()
    assert not [key for key, parameter in head.named_parameters() if parameter.grad is None]


def test_parameters_by_hand():
    def count(features, **options):
        return count_parameters(SemanticHead(features, classes=3, channels=16, **options))

    norm, classifier = 2 * 16, 16 * 3 + 3
    assert count(EQUAL) == (8 * 9 + 8 * 16 + norm) + classifier
    assert count(EQUAL, style=Style(separable=False)) == (8 * 16 * 9 + norm) + classifier
    assert count(EQUAL, mask_layers=2) == (8 * 9 + 8 * 16 + norm) + (16 * 9 + 16 * 16 + norm) + classifier
    assert count(EQUAL, merge="concat") == (24 * 9 + 24 * 16 + norm) + classifier
    projections = (4 + 6 + 8) * 16 + 3 * 16
    assert count(GROWING) == projections + (16 * 9 + 16 * 16 + norm) + classifier
    assert count(GROWING, merge="concat") == (18 * 9 + 18 * 16 + norm) + classifier


def test_dropout_drops_whole_channels_in_training_alone():
    head = SemanticHead(EQUAL, classes=1, mask_layers=0, dropout=0.5)
    dropped = []
    head.dropout.register_forward_hook(lambda _, __, result: dropped.append(result.abs().sum((2, 3)) == 0))
    head(maps(EQUAL, batch=16))
    head.eval()(maps(EQUAL, batch=16))
    assert 0.3 < dropped[0].float().mean() < 0.7
    assert not dropped[1].any()


def test_says_its_stride_and_the_grid_it_wants():
    head = SemanticHead(EQUAL, classes=1)
    assert (head.task, head.stride, head.multiple) == ("segmentation", 4, 16)
    coarse = tuple(FeatureSpec(8, stride) for stride in (8, 16, 32, 64, 128))
    assert SemanticHead(coarse, classes=1).multiple == 32


def test_norm_and_activation_follow_the_style():
    head = SemanticHead(EQUAL, classes=1, mask_layers=2, style=Style(norm="gn", activation="mish"))
    assert sum(isinstance(module, nn.GroupNorm) for module in head.modules()) == 2
    assert sum(isinstance(module, nn.Mish) for module in head.modules()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes and channels >= 1, .* got 0, 64, 1 and 0.0"),
        ({"classes": 1, "channels": 0}, "got 1, 0, 1 and 0.0"),
        ({"classes": 1, "mask_layers": -1}, "got 1, 64, -1 and 0.0"),
        ({"classes": 1, "dropout": 1.0}, r"dropout in \[0, 1\), got 1, 64, 1 and 1.0"),
        ({"classes": 1, "merge": "summ"}, "unknown merge 'summ'; did you mean 'sum'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        SemanticHead(EQUAL, **arguments)

import pytest
import torch
import torch.nn.functional as F

from trivet.errors import UsageError
from trivet.models.count import count_parameters
from trivet.models.heads.large_fov import LargeFOVHead
from trivet.structures import FeatureSpec

MAP = (FeatureSpec(8, 8),)


def test_parameters_as_published():
    head = LargeFOVHead((FeatureSpec(512, 8),), classes=21)
    fc6, fc7, fc8 = 512 * 1024 * 9 + 1024, 1024 * 1024 + 1024, 1024 * 21 + 21
    assert count_parameters(head) == fc6 + fc7 + fc8 == 5_790_741


def test_layer_by_layer():
    head = LargeFOVHead(MAP, classes=3, hidden=6).eval()
    state, x = head.state_dict(), torch.randn(2, 8, 15, 17)
    average = F.conv2d(F.pad(x, (1, 1, 1, 1)), torch.full((8, 1, 3, 3), 1 / 9), groups=8)
    hidden = F.conv2d(average, state["fc6.weight"], state["fc6.bias"], padding=12, dilation=12).relu()
    hidden = F.conv2d(hidden, state["fc7.weight"], state["fc7.bias"]).relu()
    expected = F.conv2d(hidden, state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(head([x]), expected)


def test_each_cell_sees_a_window_of_27_cells():
    """9 taps of 12 cells' distance, each an average of 3: from -13 to 13."""
    head = LargeFOVHead(MAP, classes=1, hidden=4, dropout=0.0)
    with torch.no_grad():  # positive throughout, so that no ReLU hides a tap
        for parameter in head.parameters():
            parameter.abs_()
    x = torch.ones(1, 8, 31, 31, requires_grad=True)
    head([x])[0, 0, 15, 15].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert rows.tolist() == [2, 3, 4, 14, 15, 16, 26, 27, 28]


def test_drops_half_after_both_hidden_layers_in_training():
    head = LargeFOVHead(MAP, classes=1, hidden=64)
    shares = []
    for layer in (head.fc7, head.classifier):
        layer.register_forward_pre_hook(lambda _, inputs: shares.append((inputs[0] == 0).float().mean()))
    head.eval()([torch.ones(1, 8, 9, 9)])
    head.train()([torch.ones(1, 8, 9, 9)])
    assert shares[2] - shares[0] > 0.15
    assert shares[3] - shares[1] > 0.15


def test_width_and_dilation():
    head = LargeFOVHead(MAP, classes=1, width=0.25, dilation=6)
    assert head.fc6.out_channels == head.fc7.out_channels == 256
    assert head.fc6.dilation == head.fc6.padding == (6, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, r"dilation >= 1 and dropout in \[0, 1\), got 0, 1024 x 1.0, 12 and 0.5"),
        ({"classes": 1, "width": 0.0}, "got 1, 1024 x 0.0"),
        ({"classes": 1, "dropout": -0.1}, "and -0.1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        LargeFOVHead(MAP, **arguments)


def test_takes_one_map():
    with pytest.raises(UsageError, match="takes one map, the neck gives 2"):
        LargeFOVHead(MAP * 2, classes=1)

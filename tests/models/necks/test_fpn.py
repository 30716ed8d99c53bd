import torch
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from trivet.models.blocks import Style
from trivet.models.necks.fpn import FPN
from trivet.structures import FeatureSpec

FEATURES = (FeatureSpec(8, 8), FeatureSpec(12, 16), FeatureSpec(16, 32))


def test_equals_torchvisions():
    theirs = FeaturePyramidNetwork(
        [8, 12, 16], 16, extra_blocks=LastLevelP6P7(16, 16), norm_layer=torch.nn.BatchNorm2d
    ).eval()
    # P6 from P5, as RetinaNet v2 does; torchvision takes C5 when the channels differ.
    theirs.extra_blocks.use_P5 = True
    ours = FPN(FEATURES, channels=16, style=Style(separable=False, norm_eps=1e-5)).eval()
    names = {
        "inner_blocks": "lateral",
        "layer_blocks": "output",
        "extra_blocks.p6": "extra.0",
        "extra_blocks.p7": "extra.1",
    }
    state = {}
    for key, value in theirs.state_dict().items():
        for there, here in names.items():
            key = key.replace(there, here)
        parts = key.split(".")
        if parts[0] != "extra":
            parts[2] = {"0": "full", "1": "norm"}[parts[2]]
        state[".".join(parts)] = value
    ours.load_state_dict(state)
    maps = [torch.randn(2, f.channels, -(-75 // f.stride), -(-110 // f.stride)) for f in FEATURES]
    expected = theirs(dict(enumerate(maps))).values()
    for a, b in zip(ours(maps), expected, strict=True):
        torch.testing.assert_close(a, b)

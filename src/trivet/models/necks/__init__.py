"""Necks by name: each makes a pyramid from the backbone's `FeatureSpec`s and publishes its own."""

from collections.abc import Callable
from functools import partial

from torch import nn

from trivet.models.necks.bifpn import bifpn_layout
from trivet.models.necks.deconvnet import DeconvNet
from trivet.models.necks.fpn import FPN
from trivet.models.necks.graph import GraphNeck
from trivet.models.necks.none import NoNeck
from trivet.models.necks.pan import pan_layout
from trivet.models.necks.quad import quad_layout
from trivet.models.necks.spp_pan import SppPan

NECKS: dict[str, Callable[..., nn.Module]] = {
    "bifpn": partial(GraphNeck, layout=bifpn_layout),
    "deconvnet": DeconvNet,
    "fpn": FPN,
    "none": NoNeck,
    "pan": partial(GraphNeck, layout=pan_layout),
    "quad": partial(GraphNeck, layout=quad_layout),
    "spp_pan": SppPan,
}

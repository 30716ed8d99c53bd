import pytest
import timm

from trivet.errors import UsageError
from trivet.models.scaling import PUBLISHED, round_channels, scale_efficientnet


@pytest.mark.parametrize(
    ("name", "width", "depth", "side"),
    [("b0", 1.0, 1.0, 224), ("b1", 1.05, 1.10, 240), ("b4", 1.33, 1.73, 341), ("b7", 1.77, 2.99, 518)],
)
def test_the_formula(name, width, depth, side):
    formula = scale_efficientnet(f"efficientnet_{name}").formula
    assert (round(formula.width, 2), round(formula.depth, 2), formula.resolution) == (width, depth, side)


@pytest.mark.parametrize(
    "name", ["b0", pytest.param("b3", marks=pytest.mark.slow), pytest.param("b7", marks=pytest.mark.slow)]
)
def test_the_table_makes_timms_networks(name):
    scaling = PUBLISHED[f"efficientnet_{name}"].scaling
    net = timm.create_model(f"tf_efficientnet_{name}")
    stem, *stages, last = scaling.channels
    assert (net.conv_stem.out_channels, net.num_features) == (stem, last)
    assert net.feature_info[-1]["num_chs"] == stages[-1]
    assert tuple(len(stage) for stage in net.blocks) == scaling.repeats
    assert net.default_cfg["input_size"][-1] == scaling.resolution


def test_where_they_differ():
    assert scale_efficientnet("efficientnet_b1").differences == ()
    differing = {one.what: one for one in scale_efficientnet("tf_efficientnet_b7").differences}
    assert set(differing) == {"width", "depth", "resolution"}
    assert (differing["resolution"].published, differing["resolution"].formula) == (600.0, 518.0)
    assert differing["width"].ratio == pytest.approx(2.0 / 1.1**6)


def test_a_phi_of_ones_own():
    assert scale_efficientnet(3).name == "efficientnet_b4"
    own = scale_efficientnet(1.7)
    assert (own.name, own.published, own.differences) == (None, None, ())
    assert own.formula.resolution == round(224 * 1.15**1.7)


def test_a_step_about_doubles_the_cost():
    assert scale_efficientnet(1).formula.cost == pytest.approx(1.92, rel=0.02)


@pytest.mark.parametrize(("given", "rounded"), [(35.2, 32), (38.4, 40), (3.0, 8), (16 * 1.1, 16), (20.0, 24)])
def test_channels_are_rounded_to_eight(given, rounded):
    assert round_channels(given) == rounded


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("efficientnet_b9", "unknown EfficientNet 'efficientnet_b9'; did you mean"),
        ("efficientnet_l2", "was not made by compound scaling"),
        (-1.0, "phi is from 0 to 20, got -1.0"),
    ],
)
def test_what_cannot_be_scaled(given, message):
    with pytest.raises(UsageError, match=message):
        scale_efficientnet(given)

import timm

from tests.models.oracle import effdet_net
from trivet.models.build import build_model
from trivet.models.layouts import from_effdet, from_lite_package, from_timm


def test_effdets_names_become_all_of_ours():
    state = effdet_net("tf_efficientdet_d0", (128, 128)).state_dict()
    assert set(from_effdet(state, min_level=3).values()) == set(
        build_model("tf_efficientdet_d0").state_dict()
    )


def test_effdets_level_first_norms_are_turned():
    net = effdet_net("tf_efficientdet_d0", (128, 128))
    before = net.class_net.bn_rep[2][4].bn
    net.toggle_head_bn_level_first()
    names = from_effdet(net.state_dict(), min_level=3)
    assert names["class_net.bn_rep.4.2.weight"] == "head.class_tower.norms.2.4.weight"
    assert net.class_net.bn_rep[4][2] is before
    assert set(names.values()) == set(build_model("tf_efficientdet_d0").state_dict())


def test_timms_flattened_names_are_found():
    names = from_timm(
        ["stem_1.weight", "stages.0.x", "blocks.1.2.y", "head.fc"],
        wanted=["stem_1.weight", "stages_0.x", "blocks.1.2.y"],
    )
    assert names == {
        "stem_1.weight": "backbone.body.stem_1.weight",
        "stages.0.x": "backbone.body.stages_0.x",
        "blocks.1.2.y": "backbone.body.blocks.1.2.y",
    }


def test_lite_package_names_become_timms():
    expected = timm.create_model("tf_efficientnet_lite0").state_dict()
    back = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    names = from_lite_package(
        [
            "_conv_stem.weight",
            "_blocks.0._bn1.weight",
            "_blocks.1._expand_conv.weight",
            "_blocks.15._bn2.bias",
            "_fc.bias",
        ],
        blocks=dict.fromkeys(".".join(key.split(".")[:3]) for key in expected if key.startswith("blocks.")),
    )
    assert list(names.values()) == [
        "conv_stem.weight",
        "blocks.0.0.bn1.weight",
        "blocks.1.0.conv_pw.weight",
        "blocks.6.0.bn3.bias",
        "classifier.bias",
    ]
    assert set(names.values()) <= expected.keys()
    assert back

import pytest
import timm
import torch

from trivet.errors import UsageError
from trivet.models.backbone import Backbone, imagenet_labels
from trivet.models.build import build_model
from trivet.models.count import count_parameters
from trivet.models.necks.graph import Fuse
from trivet.models.weights import load_weights
from trivet.models.zoo_classification import CLASSIFIERS

EFFICIENTNETS = [name for name in CLASSIFIERS if name.startswith("efficientnet")]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n.endswith(("b0", "lite0")) else pytest.mark.slow) for n in EFFICIENTNETS],
)
def test_efficientnets_are_timms(name):
    net = timm.create_model(f"tf_{name}").eval()
    model = build_model(name).eval()
    assert count_parameters(model) == count_parameters(net) == CLASSIFIERS[name].parameters
    report = load_weights(model, net.state_dict())
    assert (report.initialised, report.dropped) == ((), ())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(images), net(images), atol=1e-5)


def test_other_classes_start_anew_and_the_last_convolution_is_kept():
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    model = build_model("efficientnet_lite0", classes=3)
    report = load_weights(model, state)
    assert set(report.initialised) == {"head.linear.weight", "head.linear.bias"}
    assert torch.equal(model.state_dict()["head.convs.0.0.full.weight"], state["conv_head.weight"])


@pytest.mark.parametrize("classes", [3, 1000])
def test_a_classifier_for_other_inputs_is_left_out_whole(classes):
    model = build_model(backbone="tf_efficientnet_lite0", head="pooled", classes=classes)
    before = model.head.linear.bias.clone()
    report = load_weights(model, timm.create_model("tf_efficientnet_lite0").state_dict())
    assert "classifier.weight" in report.dropped
    assert "classifier.bias" in report.dropped
    assert torch.equal(model.head.linear.bias, before)


def test_any_backbone_with_a_linear_classifier():
    net = timm.create_model("test_resnet", num_classes=5).eval()
    model = build_model(backbone="test_resnet", head="pooled", classes=5).eval()
    load_weights(model, net.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(images), net(images), atol=1e-5)


class TestRegnetWithBiFPN:
    def test_fusion_weights_start_at_one_and_learn(self):
        torch.manual_seed(0)
        model = build_model("regnet_bifpn")
        fusions = [part for part in model.modules() if isinstance(part, Fuse)]
        before = [part.weights.detach().clone() for part in fusions]
        assert len(fusions) == 8
        assert all((weights == 1).all() for weights in before)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        labels = torch.tensor([0, 1, 2, 3])
        for _ in range(3):
            loss = torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for part, weights in zip(fusions, before, strict=True):
            assert part.weights.is_leaf
            assert (part.weights != weights).all()

    def test_small_pictures_keep_their_cells(self):
        model = build_model("regnet_bifpn").eval()
        assert [tuple(x.shape[-2:]) for x in model.backbone(torch.randn(1, 3, 32, 32))] == [
            (8, 8),
            (4, 4),
            (2, 2),
        ]
        assert model.backbone.features[0].stride == 4

    def test_the_ablation_is_the_same_without_the_neck(self):
        with_neck, without = build_model("regnet_bifpn"), build_model("regnet_small")
        assert with_neck.spec.backbone == without.spec.backbone
        assert count_parameters(with_neck.backbone) == count_parameters(without.backbone)


class TestStrides:
    @pytest.mark.parametrize("name", ["regnetx_002", "regnety_004"])
    @pytest.mark.parametrize(
        ("strides", "sides"),
        [((1, 1, 2, 2, 2), (16, 8, 4)), ((2, 1, 1, 2, 2), (16, 8, 4)), ((1, 1, 1, 2, 2), (16, 8))],
    )
    def test_maps_are_as_large_as_published(self, name, strides, sides):
        levels = (1, 3)
        backbone = Backbone(name, strides=strides, levels=levels).eval()
        maps = backbone(torch.randn(1, 3, 32, 32))
        assert (
            [x.shape[-1] for x in maps]
            == [32 // feature.stride for feature in backbone.features]
            == list(sides)
        )

    @pytest.mark.parametrize(
        ("name", "strides", "message"),
        [
            (
                "regnetx_002",
                (1, 2, 2),
                r"'regnetx_002': its stem and stages have the strides \(2, 2, 2, 2, 2\)",
            ),
            ("regnetx_002", (1, 2, 2, 2, 4), "got strides="),
            ("resnet18", (1, 2, 2, 2, 2), "no strided convolution"),
        ],
    )
    def test_strides_that_cannot_be(self, name, strides, message):
        with pytest.raises(UsageError, match=message):
            Backbone(name, strides=strides, levels=(1, 5))


def test_imagenets_classes():
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert labels.names[282] == "tiger cat"
    assert labels.file_ids[282] == "n02123159"
    assert [name for name in labels.names if name.startswith("crane")] == ["crane", "crane (n03126707)"]

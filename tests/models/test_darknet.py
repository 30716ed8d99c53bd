import numpy as np
import pytest
import torch

from tests.models.darknet_net import Conv, entering_channels, run, write_random, yolov4_layers
from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.models.darknet import is_darknet_file
from trivet.models.weights import load_weights

CLASSES = 5
WIDTH = 0.125
BLOCKS = (1, 1, 2, 2, 1)  # what depth 0.25 leaves of 1, 2, 8, 8, 4
LAYERS = yolov4_layers(CLASSES, width=WIDTH, blocks=BLOCKS)


def narrow(classes=CLASSES, **options):
    torch.manual_seed(0)
    return build_model("yolov4", classes=classes, width=WIDTH, depth=0.25, **options).eval()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "narrow.weights"
    write_random(path, LAYERS)
    return path


def as_darknet(output, level):
    """Return a level's output as darknet has it: by anchor x, y, w, h, objectness, classes."""
    boxes = output.box_deltas[level].unflatten(1, (3, 4))[:, :, [1, 0, 3, 2]]
    sure = output.objectness[level][:, :, None]
    return torch.cat([boxes, sure, output.class_logits[level].unflatten(1, (3, -1))], dim=2).flatten(1, 2)


@torch.no_grad()
def test_says_what_darknet_says(file):
    model = narrow()
    report = load_weights(model, file)
    assert report.layout == "darknet"
    assert report.text() == f"kept {len(report.kept)} tensors (darknet layout)"
    images = torch.rand(2, 3, 96, 64)
    output = model(images)
    for level, wanted in enumerate(run(file, LAYERS, images)):
        torch.testing.assert_close(as_darknet(output, level).double(), wanted, rtol=1e-3, atol=1e-4)


def test_the_published_cfg_has_the_published_size():
    layers = yolov4_layers(80)
    count = sum(
        layer.filters * (before * layer.size**2 + (2 if layer.norm else 1))
        for layer, before in zip(layers, entering_channels(layers), strict=True)
        if isinstance(layer, Conv)
    )
    assert count == 64_363_101
    assert [number for number, layer in enumerate(layers) if type(layer).__name__ == "Yolo"] == [
        139,
        150,
        161,
    ]


@pytest.mark.parametrize("version", [(0, 1), (0, 2), (0, 5)])
def test_reads_the_header_of_every_version(tmp_path, version):
    path = tmp_path / "x.weights"
    write_random(path, LAYERS, version=version)
    model = narrow()
    load_weights(model, path)
    first = np.frombuffer(path.read_bytes()[16 if version == (0, 1) else 20 :], "<f4")
    assert model.backbone.stem.conv.norm.bias.tolist() == first[:4].tolist()


def test_other_classes_keep_everything_but_their_rows(file):
    model = narrow(classes=2)
    before = model.state_dict()["head.levels.0.classes.weight"].clone()
    report = load_weights(model, file, labels=["a", "b", "c", "d", "e"], new_labels=["d", "new"])
    assert (report.mapped, report.new_classes, report.dropped) == (("d",), ("new",), ("a", "b", "c", "e"))
    same = narrow()
    load_weights(same, file)
    theirs = same.head.levels[0].classes.weight.unflatten(0, (3, -1))
    ours = model.head.levels[0].classes.weight.unflatten(0, (3, -1))
    assert torch.equal(ours[:, 0], theirs[:, 3])
    assert torch.equal(ours[:, 1], before.unflatten(0, (3, -1))[:, 1])
    assert torch.equal(model.head.levels[2].boxes.weight, same.head.levels[2].boxes.weight)


def cut_after(file, layers, number):
    """Return the path of a file of the first layers, up to but not including one, named as darknet names it."""
    count = sum(
        layer.filters * (before * layer.size**2 + (4 if layer.norm else 1))
        for layer, before in list(zip(layers, entering_channels(layers), strict=True))[:number]
        if isinstance(layer, Conv)
    )
    path = file.with_name(f"narrow.conv.{number}")
    path.write_bytes(file.read_bytes()[: 20 + 4 * count])
    return path


def test_a_file_of_the_first_layers_fills_them_alone(file):
    whole, model = narrow(), narrow()
    load_weights(whole, file)
    first_head = model.state_dict()["head.levels.0.conv.conv.full.weight"].clone()
    prediction = next(i for i, layer in enumerate(LAYERS) if isinstance(layer, Conv) and not layer.norm)
    report = load_weights(model, cut_after(file, LAYERS, prediction - 1))  # yolov4.conv.137
    assert torch.equal(model.neck.down[1].mix[4].conv.full.weight, whole.neck.down[1].mix[4].conv.full.weight)
    assert torch.equal(model.state_dict()["head.levels.0.conv.conv.full.weight"], first_head)
    assert "newly initialised: head and neck" in report.text()


def test_the_backbone_alone_is_the_least(file):
    joins = [i for i, layer in enumerate(LAYERS) if isinstance(layer, Conv) and layer.activation == "leaky"]
    report = load_weights(narrow(), cut_after(file, LAYERS, joins[0]))
    assert all(name.startswith("backbone.") for name in report.kept)
    with pytest.raises(UsageError, match="are not those of this model"):
        load_weights(narrow(), cut_after(file, LAYERS, joins[0] - 1))


@pytest.mark.parametrize("missing", [4, 4000, 123_456])
def test_a_file_that_was_cut_off_is_refused_and_nothing_changes(file, missing):
    model = narrow()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    file.write_bytes(file.read_bytes()[:-missing])
    with pytest.raises(UsageError, match=r"narrow\.weights: its [\d,]+ numbers are not those of this model"):
        load_weights(model, file)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_half_a_number_is_refused(file):
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UsageError, match="whole float32 numbers: it is cut off"):
        load_weights(narrow(), file)


def test_a_file_for_another_width_is_refused(file):
    with pytest.raises(UsageError, match=r"or for another network or width\n.*build_model\(\"yolov4\"\)"):
        load_weights(build_model("yolov4", classes=CLASSES, width=0.25, depth=0.25), file)


def test_numbers_that_are_not_finite_are_refused(file):
    content = bytearray(file.read_bytes())
    content[200:204] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    with pytest.raises(UsageError, match="not finite, or variances below 0"):
        load_weights(narrow(), file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are fewer than the header"),
        (b"PK\x03\x04 not darknet's, but long enough", "does not begin as a darknet file does"),
        (b"\x80\x02}q\x00(X\x04\x00\x00\x00spam", "does not begin as a darknet file does"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.weights"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_weights(narrow(), path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="there is no weights file"):
        load_weights(narrow(), tmp_path / "yolov4.weights")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: narrow(norm="gn"), id="group norm"),
        pytest.param(lambda: narrow(levels=(3, 6)), id="more levels"),
        pytest.param(
            lambda: build_model(backbone="test_resnet", head="yolo", classes=5), id="other backbone"
        ),
    ],
)
def test_models_that_darknet_does_not_know_are_refused(file, model):
    with pytest.raises(
        UsageError, match="darknet's weights are for a YOLOv4 of full convolutions with batch norms"
    ):
        load_weights(model(), file)


def test_frozen_norms_take_them_too(file):
    frozen, plain = narrow(norm="frozen_bn"), narrow()
    for model in (frozen, plain):
        load_weights(model, file)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(frozen(images).box_deltas, plain(images).box_deltas)


def test_names_that_tell_such_a_file():
    assert is_darknet_file("a/yolov4.weights")
    assert is_darknet_file("yolov4.conv.137")
    assert not is_darknet_file("weights.pth")
    assert not is_darknet_file("yolov4.weights.safetensors")

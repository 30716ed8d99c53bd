"""`DetectionTask.like_effdet` against effdet itself: losses, gradients, predictions, and published golden values."""

import warnings

import pytest
import torch

from trivet.geometry.anchors import AnchorSpec
from trivet.structures import AnchorOutput
from trivet.tasks.detection import DetectionTask

CASES = [
    pytest.param(AnchorSpec(3, 7), (128, 128), 90, id="d0"),
    pytest.param(AnchorSpec(3, 8), (128, 256), 7, id="d7x"),
    pytest.param(AnchorSpec(3, 7, scale=3.0), (160, 104), 3, id="lite0"),
]


def detached(maps):
    return [m.detach().clone().requires_grad_() for m in maps]


@pytest.mark.parametrize(("spec", "size_hw", "classes"), CASES)
def test_losses_and_gradients(effdet, effdet_labels, make, spec, size_hw, classes):
    output, batch = (
        make.random_output(spec, size_hw, 3, classes),
        make.random_batch(size_hw, [6, 0, 2], classes),
    )
    ours = DetectionTask.like_effdet(classes, spec).losses(output, batch)
    ours["loss"].backward()
    logits, deltas = detached(output.class_logits), detached(output.box_deltas)
    class_targets, box_targets, positives = effdet_labels(spec, size_hw, batch, classes)
    theirs = effdet.loss.loss_fn(
        logits, deltas, class_targets, box_targets, positives, classes, 0.25, 1.5, 0.1, 50.0
    )
    theirs[0].backward()
    assert ours["positives"] == positives.sum()
    for key, value in zip(("loss", "class", "box"), theirs, strict=True):
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6)
    for mine, other in zip(output.class_logits + output.box_deltas, logits + deltas, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("nms", "candidates"), [("hard", 5000), ("soft", 150)])
@pytest.mark.parametrize(("spec", "size_hw", "classes"), CASES)
def test_predictions(effdet, make, spec, size_hw, classes, nms, candidates):
    output = make.random_output(spec, size_hw, 2, classes, spread=2)
    anchors = effdet.anchors.Anchors(
        spec.min_level, spec.max_level, spec.octaves, list(spec.ratios), spec.scale, size_hw
    )
    with torch.no_grad():
        picked = effdet.bench._post_process(
            list(output.class_logits), list(output.box_deltas), len(spec.levels), classes, candidates
        )
        size_wh = torch.tensor([[size_hw[1], size_hw[0]]] * 2).float()
        rows = effdet.bench._batch_detection(
            2, *picked[:2], anchors.boxes, *picked[2:], torch.ones(2), size_wh, 100, nms == "soft"
        )
    task = DetectionTask.like_effdet(classes, spec, nms=nms, candidates=candidates)
    for ours, theirs in zip(task.predict(output, size_hw), rows, strict=True):
        assert len(ours) == 100
        # effdet's soft suppression shifts classes apart, where boxes lose digits
        torch.testing.assert_close(ours.scores, theirs[:, 4], atol=1e-4 if nms == "soft" else 1e-6, rtol=0)
        assert torch.equal(ours.labels + 1, theirs[:, 5].long())
        torch.testing.assert_close(ours.boxes_xyxy, theirs[:, :4], atol=1e-3, rtol=1e-5)


def golden_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fill weights by a formula that needs no random numbers, so that results can be compared anywhere."""
    filled = {}
    for k, key in enumerate(sorted(state)):
        value = state[key]
        index = torch.arange(value.numel(), dtype=torch.float64)
        u = ((index * 0.6180339887498949 + (k + 1) * 0.7548776662466927).frac() - 0.5).reshape(value.shape)
        if key.endswith("num_batches_tracked"):
            filled[key] = torch.zeros_like(value)
        elif value.ndim >= 2:
            filled[key] = u * 2 * (3 / value[0].numel()) ** 0.5
        elif key.endswith("running_var"):
            filled[key] = 1 + 0.2 * u
        elif key.endswith("edge_weights"):
            filled[key] = 1 + 0.5 * u
        elif key.endswith("weight"):
            filled[key] = 1 + 0.2 * u
        else:
            filled[key] = 0.2 * u
    return {key: filled[key].to(value.dtype) for key, value in state.items()}


GOLDEN = [
    ("tf_efficientdet_d0", 128, 760.75055, 760.08844, 0.01324268, 66),
    pytest.param("efficientdet_d0", 128, 760.42426, 759.72552, 0.01397408, 66, marks=pytest.mark.slow),
    pytest.param("tf_efficientdet_d1", 256, 3039.74902, 3039.04907, 0.01399835, 66, marks=pytest.mark.slow),
    pytest.param("tf_efficientdet_d7x", 256, 3044.24683, 3043.56763, 0.01358600, 66, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "size", "loss", "class_loss", "box_loss", "positives"), GOLDEN)
def test_golden_losses(effdet, make, name, size, loss, class_loss, box_loss, positives):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = effdet.package.get_efficientdet_config(name)
        config.image_size = (size, size)
        net = effdet.package.EfficientDet(config, pretrained_backbone=False).eval()
    net.load_state_dict(golden_weights(net.state_dict()))
    count = 3 * size * size
    image = (torch.arange(count, dtype=torch.float64) * 0.6180339887498949).frac() * 2 - 1
    with torch.no_grad():
        logits, deltas = net(image.float().reshape(1, 3, size, size))
    boxes = torch.tensor([[30.0, 20.0, 100.0, 90.0], [60.0, 5.0, 120.0, 40.0]])
    batch = make.batch((size, size), [(boxes, torch.tensor([0, 6]))])
    spec = AnchorSpec(3, config.max_level, scale=float(config.anchor_scale))
    losses = DetectionTask.like_effdet(90, spec).losses(AnchorOutput(tuple(logits), tuple(deltas)), batch)
    assert float(losses["positives"]) == positives
    assert float(losses["class"]) == pytest.approx(class_loss, rel=1e-5)
    assert float(losses["box"]) == pytest.approx(box_loss, rel=1e-4)
    assert float(losses["loss"]) == pytest.approx(loss, rel=1e-5)

"""Recomputing a part changes what is kept, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.train.ema import Ema
from trivet.train.recompute import Recomputed, blocks_of, recompute


def _model(name="efficientdet_lite0", **options):
    torch.manual_seed(0)
    return build_model(name, classes=2, size_hw=(64, 64), **options).train()


def _step(model, images):
    torch.manual_seed(1)
    output = model(images)
    leaves = [leaf for part in output for leaf in part] if isinstance(output, tuple) else [output]
    sum(leaf.square().mean() for leaf in leaves).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientdet_lite0", {"drop_path": 0.5}),
        ("semantic_fpn_lite0", {}),
        ("regnet_small", {}),
        ("yolov4", {"width": 0.125, "depth": 0.25}),
    ],
)
def test_gradients_and_statistics_are_those_of_plain_training(name, options):
    plain = _model(name, **options)
    again = copy.deepcopy(plain)
    parts = ("backbone", "neck", "head") if name != "regnet_small" else ("backbone", "head")
    assert recompute(again, parts) > 3
    images = torch.randn(2, 3, 64, 64)
    expected, found = _step(plain, images), _step(again, images)
    for key, gradient in expected.items():
        if gradient is None:
            assert found[key] is None
            continue
        assert torch.allclose(found[key], gradient, rtol=1e-4, atol=1e-6), key
    for key, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_every_block_that_is_found_runs_through_its_own_call():
    for name in ("efficientdet_lite0", "semantic_fpn_lite0", "deconvnet_vgg16_bn", "compact", "resdet50"):
        options = {"width": 1 / 16} if name == "deconvnet_vgg16_bn" else {}
        try:
            model = _model(name, **options)
        except UsageError:
            model = _model(name)
        called = set()
        blocks = [block for part in (model.backbone, model.neck, model.head) for block in blocks_of(part)]
        for block in blocks:
            block.register_forward_hook(lambda module, *_, called=called: called.add(id(module)))
        with torch.no_grad():
            model(torch.randn(2, 3, 64, 64))
        assert {id(block) for block in blocks} == called, name


def test_less_is_kept():
    def kept(model):
        sizes = {}

        def keep(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(torch.randn(2, 3, 128, 128))
        del output
        return sum(sizes.values())

    plain, again = _model(), _model()
    recompute(again, ("backbone", "neck", "head"))
    assert kept(again) < 0.5 * kept(plain)


def test_evaluation_copies_and_weights_files_are_as_before():
    model = _model()
    names = list(model.state_dict())
    recompute(model, ("backbone",))
    recompute(model, ("backbone",))  # twice is once
    assert list(model.state_dict()) == names
    average = Ema(model, 0.9).model
    assert not average.training
    images = torch.randn(1, 3, 64, 64)
    model.eval()
    with torch.no_grad():
        assert torch.equal(average(images).class_logits[0], model(images).class_logits[0])
    block = blocks_of(model.backbone)[0]
    assert type(block).__mro__.count(Recomputed) == 1


def test_a_part_there_is_not_is_refused():
    with pytest.raises(UsageError, match="unknown part of the model 'nekc'; did you mean 'neck'"):
        recompute(_model(), ("nekc",))


def test_a_network_without_blocks_is_one():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert blocks_of(network) == [network]
    assert blocks_of(nn.ReLU()) == []

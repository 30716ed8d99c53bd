import torch

from tests.train.tiny import tiny_model
from trivet.train.ema import Ema


def test_the_average_follows_the_ramp():
    model = tiny_model()
    ema = Ema(model, 0.9)
    expected = model.head.weight.detach().double().clone()
    for step in range(1, 101):
        with torch.no_grad():
            model.head.weight.add_(0.01)
        ema.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.head.weight.detach().double()
    torch.testing.assert_close(ema.model.head.weight.double(), expected, rtol=1e-5, atol=1e-6)


def test_after_a_short_run_little_of_the_start_is_left():
    """A plain decay of 0.9998 leaves 95.5 % after 230 steps."""
    model = tiny_model()
    ema = Ema(model, 0.9998)
    torch.nn.init.zeros_(ema.model.head.weight)
    torch.nn.init.ones_(model.head.weight)
    for _ in range(230):
        ema.update(model)
    assert ema.model.head.weight.mean() > 0.999


def test_buffers_are_averaged_and_counters_copied():
    model = tiny_model().train()
    ema = Ema(model, 0.5)
    for _ in range(20):
        model(torch.rand(4, 3, 8, 8) + 5)
        ema.update(model)
    assert int(ema.model.backbone[1].num_batches_tracked) == 20
    gap = (ema.model.backbone[1].running_mean - model.backbone[1].running_mean).abs().max()
    assert 0 < gap < 0.5


def test_the_average_never_trains():
    ema = Ema(tiny_model().train(), 0.9)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())

import pytest
import torch
import torch.nn.functional as F

from trivet.tasks.losses import PIXEL_LOSSES
from trivet.tasks.losses.images import sum_over_images

SIZE = (12, 17)


def case(dtype=torch.float32, stride_hw=(3, 5), images: int = 3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, 4, *stride_hw, generator=generator).to(dtype).requires_grad_()
    masks = torch.randint(0, 4, (images, *SIZE), generator=generator).to(torch.uint8)
    masks[0, :4] = 255
    return logits, masks


def plain(logits, masks, losses):
    """The same with all images at full size in one graph."""
    total = 0.0
    for i, mask in enumerate(masks):
        full = F.interpolate(logits[i : i + 1], size=SIZE, mode="bilinear", align_corners=False)[0]
        keep = mask != 255
        if keep.any():
            total = total + sum(weight * loss(full[:, keep], mask[keep].long()) for loss, weight in losses)
    return total


@pytest.mark.parametrize("stride_hw", [(3, 5), (12, 17), (1, 1), (24, 34)])
@pytest.mark.parametrize("names", [*([name] for name in PIXEL_LOSSES), list(PIXEL_LOSSES)], ids="+".join)
def test_value_and_gradient_equal_the_plain_graph(names, stride_hw):
    logits, masks = case(torch.float64, stride_hw)
    losses = [(PIXEL_LOSSES[name](), 0.5 + i) for i, name in enumerate(names)]
    ours, parts = sum_over_images(logits, masks, losses)
    theirs = plain(logits, masks, losses)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(sum(w * p for (_, w), p in zip(losses, parts, strict=True)), ours)
    torch.testing.assert_close(
        torch.autograd.grad(ours * 3, logits)[0], torch.autograd.grad(theirs * 3, logits)[0]
    )


def test_cross_entropy_equals_torch_on_the_whole_batch():
    logits, masks = case()
    total, _ = sum_over_images(logits, masks, [(PIXEL_LOSSES["cross_entropy"](), 1.0)])
    full = F.interpolate(logits, size=SIZE, mode="bilinear", align_corners=False)
    theirs = F.cross_entropy(full, masks.long(), ignore_index=255, reduction="sum")
    torch.testing.assert_close(total, theirs)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_ignored_images_cost_nothing_and_pull_nowhere(name):
    logits, masks = case()
    masks[1] = 255
    total, _ = sum_over_images(logits, masks, [(PIXEL_LOSSES[name](), 1.0)])
    (gradient,) = torch.autograd.grad(total, logits)
    assert total > 0
    assert gradient[1].count_nonzero() == 0
    assert gradient[0].count_nonzero() > 0
    masks[:] = 255
    total, _ = sum_over_images(logits, masks, [(PIXEL_LOSSES[name](), 1.0)])
    assert total == 0
    assert torch.autograd.grad(total, logits)[0].count_nonzero() == 0


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_ignored_pixels_do_not_matter(name):
    logits, masks = case(stride_hw=SIZE)
    wild = torch.where((masks == 255)[:, None], torch.full_like(logits, 30.0), logits)
    losses = [(PIXEL_LOSSES[name](), 1.0)]
    torch.testing.assert_close(
        sum_over_images(wild, masks, losses)[0], sum_over_images(logits, masks, losses)[0]
    )


def test_memory_layout_does_not_matter():
    logits, masks = case()
    turned = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    losses = [(PIXEL_LOSSES[name](), 1.0) for name in PIXEL_LOSSES]
    results = [
        torch.autograd.grad(sum_over_images(values, masks, losses)[0], values)[0]
        for values in (logits, turned)
    ]
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits, masks = case(dtype)
    losses = [(PIXEL_LOSSES[name](), 1.0) for name in PIXEL_LOSSES]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = sum_over_images(logits, masks, losses)
    exact = logits.detach().float().requires_grad_()
    expected, _ = sum_over_images(exact, masks, losses)
    torch.testing.assert_close(total, expected)
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient.dtype == dtype
    torch.testing.assert_close(
        gradient.float(), torch.autograd.grad(expected, exact)[0], rtol=1e-2, atol=1e-3
    )


def test_nothing_is_kept_where_no_gradient_is_wanted():
    logits, masks = case()
    with torch.no_grad():
        total, parts = sum_over_images(logits, masks, [(PIXEL_LOSSES["dice"](), 2.0)])
    assert not total.requires_grad
    torch.testing.assert_close(total, 2 * parts[0])

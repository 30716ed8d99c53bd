"""The compiled kernels beside PyTorch's operators, one layer at a time: forward, and forward with backward.

    python benchmarks/kernels.py [--threads 1] [--repeats 7] [--wall]

The layers are those of EfficientDet-lite0 at 320, batch 8, and of D0 at 512, batch 4, that take the most time. The
least of the repeats counts, in processor time of the process (so that a busy machine disturbs little; with several
threads give --wall on a quiet machine). Results with date and machine are kept in `kernels.md`.
"""

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trivet.models.backbone import NORM_WITH_ACTIVATION, SAME_CONV
from trivet.models.kernels import kernels_status, use_fast_kernels
from trivet.models.kernels.layers import normalise_and_convolve
from trivet.train.allocator import keep_freed_memory

# images, channels, side
NORMS = ((8, 96, 160), (8, 32, 160), (8, 144, 80), (8, 240, 40), (8, 64, 40), (8, 64, 5), (4, 96, 256))
# images, channels, side, kernel, stride
DEPTHWISE = (
    *((8, 32, 160, 3, 1), (8, 96, 160, 3, 2), (8, 144, 80, 3, 1), (8, 144, 80, 5, 2), (8, 240, 40, 5, 1)),
    *((8, 480, 20, 3, 1), (8, 672, 20, 5, 1), (8, 1152, 10, 5, 1), (8, 64, 40, 3, 1), (8, 64, 5, 3, 1)),
)


class Chain(nn.Module):
    """A norm with its activation and the convolution after it, as a block of the backbone runs them."""

    def __init__(self, norm: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return normalise_and_convolve(self.norm, None, self.conv, x)


def norm_layer(channels: int, activation: type[nn.Module]) -> nn.Module:
    return NORM_WITH_ACTIVATION(channels, act_layer=activation)


def depthwise_layer(channels: int, kernel: int, stride: int) -> nn.Module:
    kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (SAME_CONV, 0)
    return kind(channels, channels, kernel, stride, padding, groups=channels, bias=False)


def least(action: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    best = float("inf")
    for _ in range(repeats):
        begun = clock()
        action()
        best = min(best, clock() - begun)
    return best * 1e3


def compare(label: str, layer: nn.Module, x: Tensor, repeats: int, clock: Callable[[], float]) -> None:
    layer.train()
    fast = copy.deepcopy(layer)
    use_fast_kernels(fast)
    x.requires_grad_()
    times = []
    for module in (layer, fast):
        inputs = (x, *module.parameters())
        y = module(x)
        dy = torch.randn(y.shape).to(memory_format=torch.channels_last)
        del y
        times.append(least(lambda m=module: m(x), repeats, clock))
        times.append(
            least(
                lambda m=module, i=inputs, d=dy: torch.autograd.grad(m(x), i, d),
                repeats,
                clock,
            )
        )
    print(
        f"| {label} | {times[0]:.2f} | {times[2]:.2f} | {times[1]:.2f} | {times[3]:.2f} | {times[1] / times[3]:.2f} |",
        flush=True,
    )


def picture(images: int, channels: int, side: int) -> Tensor:
    return torch.randn(images, channels, side, side).to(memory_format=torch.channels_last)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--wall", action="store_true", help="measure by the clock on the wall")
    given = options.parse_args()
    clock = time.perf_counter if given.wall else time.process_time
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    begun = time.perf_counter()
    print(f"{kernels_status()} Ready in {time.perf_counter() - begun:.1f} s.\n")
    print(
        "| layer | forward | by kernels | with backward | by kernels | times as fast |\n|---|---|---|---|---|---|"
    )
    for activation in (nn.ReLU6, nn.SiLU):
        for images, channels, side in NORMS:
            label = f"norm, {activation.__name__}: {images} x {channels} x {side} x {side}"
            compare(
                label, norm_layer(channels, activation), picture(images, channels, side), given.repeats, clock
            )
    for images, channels, side, kernel, stride in DEPTHWISE:
        shape = f"{images} x {channels} x {side} x {side}, {kernel}x{kernel} / {stride}"
        conv, x = depthwise_layer(channels, kernel, stride), picture(images, channels, side)
        compare(f"depthwise: {shape}", conv, x, given.repeats, clock)
        for activation in (nn.ReLU6, nn.SiLU):
            chain = Chain(norm_layer(channels, activation), copy.deepcopy(conv))
            compare(f"norm, {activation.__name__}, depthwise: {shape}", chain, x, given.repeats, clock)


if __name__ == "__main__":
    main()

"""Remove noise from smooth random images."""
import argparse

import torch
import torch.nn.functional as F
from torch import nn


class ConvUnit(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.GELU()

    def forward(self, x):
        return self.act(self.conv(x))


def build_model(args):
    return nn.Sequential(
        nn.Conv2d(1, args.width, 3, padding=1),
        nn.GELU(),
        *[ConvUnit(args.width)] * args.depth,
        nn.Conv2d(args.width, 1, 3, padding=1),
    )


def batch(n, generator):
    coarse = torch.randn(n, 1, 6, 6, generator=generator)
    clean = F.interpolate(coarse, size=24, mode="bicubic", align_corners=False)
    return clean + 0.5 * torch.randn(clean.shape, generator=generator), clean


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    torch.manual_seed(0)
    train_rng, test_rng = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    net = build_model(args)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(args.steps):
        noisy, clean = batch(16, train_rng)
        loss = F.mse_loss(net(noisy), clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 25 == 0:
            with torch.no_grad():
                noisy, clean = batch(32, test_rng)
                print(step + 1, f"train {loss.item():.4f}  test {F.mse_loss(net(noisy), clean).item():.4f}")


if __name__ == "__main__":
    main()

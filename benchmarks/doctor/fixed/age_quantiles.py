"""Predict the median age from simple face measurements with the pinball loss."""
import argparse

import torch
from torch import nn


class Pinball(nn.Module):
    def __init__(self, quantile=0.5):
        super().__init__()
        self.quantile = quantile

    def forward(self, output, target):
        error = target[:, None] - output
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error).mean()


class AgeNet(nn.Module):
    def __init__(self, inputs=6, width=48):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.age = nn.Linear(width, 1)

    def forward(self, x):
        return self.age(self.layers(x))


def faces(n, gen):
    x = torch.randn(n, 6, generator=gen)
    age = torch.tanh(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.3 * x[:, 3] + 0.2 * torch.randn(n, generator=gen)
    return x, age


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    net, criterion = AgeNet(), Pinball()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(1, args.steps + 1):
        x, age = faces(args.batch_size, gen)
        loss = criterion(net(x), age)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            with torch.no_grad():
                x, age = faces(500, gen)
                off = (net(x)[:, 0] - age).abs().mean().item()
            print(f"step {step} loss {loss.item():.4f} mean absolute error {off:.4f}")


if __name__ == "__main__":
    main()

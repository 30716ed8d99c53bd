"""Tell worn from sound bearings by vibration."""
import argparse

import torch
from torch import nn


def vibration(n, gen):
    worn = torch.randint(0, 2, (n,), generator=gen)
    t = torch.arange(160.0)
    hum = torch.sin(0.3 * t + 6.3 * torch.rand(n, 1, generator=gen))
    period = 12 + 8 * torch.rand(n, 1, generator=gen)
    knock = ((t + 20 * torch.rand(n, 1, generator=gen)) % period < 2).float() * 0.9
    return (hum + worn[:, None] * knock + 0.5 * torch.randn(n, 160, generator=gen)).unsqueeze(1), worn


class Ears(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 16, 9, 2), nn.BatchNorm1d(16), nn.ReLU(),
                                  nn.Conv1d(16, 32, 9, 2), nn.BatchNorm1d(32), nn.ReLU(), nn.AdaptiveMaxPool1d(1))
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        return self.head(self.body(x).squeeze(-1))


def main(args):
    torch.manual_seed(args.seed)
    gen = torch.Generator().manual_seed(args.seed)
    net = Ears()
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
    for epoch in range(args.epochs):
        net.train()
        for it in range(40):
            x, y = vibration(32, gen)
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= args.decay
        net.eval()
        with torch.no_grad():
            x, y = vibration(300, gen)
            print(epoch, f"{loss.item():.3f}", (net(x).argmax(1) == y).float().mean().item())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--decay", type=float, default=0.8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())

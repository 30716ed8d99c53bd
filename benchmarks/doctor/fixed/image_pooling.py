import argparse

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class ContextNet(nn.Module):
    """Local features beside a pooled description of the whole picture."""

    def __init__(self, classes, width=16):
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
                                   nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU())
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1, bias=False),
            nn.GroupNorm(4, width), nn.ReLU())  # context
        self.classify = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x):
        x = self.local(x)
        context = self.pooled(x).expand_as(x)
        return self.classify(torch.cat([x, context], 1))


def rooms(n, seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.zeros(n, 24, 24, dtype=torch.long)
    for i, (r, c) in enumerate(torch.randint(2, 12, (n, 2), generator=g).tolist()):
        label[i, r:r + 9, c:c + 9] = 1
        label[i, r + 3:r + 6, c + 3:c + 6] = 2
    paint = torch.tensor([[-0.4, -0.4, -0.4], [0.7, 0.1, 0.1], [0.1, 0.7, 1.0]])
    lamp = 0.5 * torch.randn(n, 3, 1, 1, generator=g)
    return TensorDataset(paint[label].permute(0, 3, 1, 2) + lamp + 0.3 * torch.randn(n, 3, 24, 24, generator=g), label)


def main(args):
    torch.manual_seed(0)
    net = ContextNet(3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr)
    train = DataLoader(rooms(200, 0), args.batch_size, shuffle=True, drop_last=True)
    val = DataLoader(rooms(40, 1), 20)
    for epoch in range(args.epochs):
        net.train()
        for x, y in train:
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            correct = sum((net(x).argmax(1) == y).float().mean().item() for x, y in val) / len(val)
        print(f"{epoch} {loss.item():.3f} {correct:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    main(parser.parse_args())

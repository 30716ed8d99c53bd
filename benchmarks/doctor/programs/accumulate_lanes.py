import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def roads(n, seed, size=24):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(float(size))
    slope = torch.randn(n, 1, 1, generator=g) * 0.4
    start = size * (0.3 + 0.4 * torch.rand(n, 1, 1, generator=g))
    mask = ((axis - start - slope * (axis[:, None] - size / 2)).abs() < 1.5).float()
    image = 0.8 * mask - 0.1 + 0.4 * torch.randn(n, size, size, generator=g)
    return TensorDataset(image[:, None], mask[:, None])


def model(width=12):
    def unit(a, b, d):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=d, dilation=d), nn.GroupNorm(3, b), nn.ReLU())
    return nn.Sequential(unit(1, width, 1), unit(width, width, 2), unit(width, width, 4), nn.Conv2d(width, 1, 1))


def train_epoch(net, loader, optimizer, criterion, args):
    net.train()
    seen = 0.0
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(net(x), y) / args.accumulate
        loss.backward()
        if (i + 1) % args.accumulate == 0:
            optimizer.step()
        seen += loss.item() * args.accumulate
    return seen / len(loader)


def iou(net, data):
    net.eval()
    x, y = data.tensors
    with torch.no_grad():
        guess = net(x) > 0
    return ((guess & (y > 0)).sum() / (guess | (y > 0)).sum()).item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(4.0))
    loader = DataLoader(roads(320, 0), batch_size=4, shuffle=True)
    for epoch in range(args.epochs):
        print(epoch, train_epoch(net, loader, optimizer, criterion, args), iou(net, roads(60, 1)))

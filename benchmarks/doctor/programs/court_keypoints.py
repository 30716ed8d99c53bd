import argparse

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class CourtDataset(Dataset):
    def __init__(self, mode, n, size=32):
        gen = torch.Generator().manual_seed({"train": 0, "val": 1}[mode])
        self.items = [self._draw(size, gen) for _ in range(n)]

    @staticmethod
    def _draw(size, gen):
        top, left = torch.randint(3, 12, (2,), generator=gen).tolist()
        bottom, right = torch.randint(19, size - 3, (2,), generator=gen).tolist()
        frame = torch.randn(1, size, size, generator=gen) * 0.2
        frame[0, top:bottom + 1, [left, right]] += 1.0
        frame[0, [top, bottom], left:right + 1] += 1.0
        axis = torch.arange(float(size))
        corners = [(top, left), (top, right), (bottom, left), (bottom, right)]
        maps = [torch.exp(-((axis[:, None] - r) ** 2 + (axis - c) ** 2) / 4) for r, c in corners]
        return frame, torch.stack(maps)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, idx):
        return self.items[idx]


class ConvBlock(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(cout))


class HeatNet(nn.Module):
    def __init__(self, out=4):
        super().__init__()
        self.net = nn.Sequential(ConvBlock(1, 16), nn.MaxPool2d(2), ConvBlock(16, 24), ConvBlock(24, 24),
                                 nn.Upsample(scale_factor=2), ConvBlock(24, 16), nn.Conv2d(16, out, 1))

    def forward(self, x):
        return self.net(x)


def train(model, loader, optimizer, criterion):
    model.train()
    losses = []
    for frame, heat in loader:
        loss = criterion(model(frame), heat)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    near = total = 0
    for frame, heat in loader:
        a, b = model(frame).flatten(2).argmax(2), heat.flatten(2).argmax(2)
        gap = ((a // 32 - b // 32) ** 2 + (a % 32 - b % 32) ** 2).float().sqrt()
        near += (gap < 3).sum().item()
        total += gap.numel()
    return near / total


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = HeatNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.999))
    train_loader = DataLoader(CourtDataset("train", 240), batch_size=12, shuffle=True)
    val_loader = DataLoader(CourtDataset("val", 48), batch_size=24)
    for epoch in range(args.num_epochs):
        loss = train(model, train_loader, optimizer, nn.MSELoss())
        print(f"epoch {epoch} loss {loss:.4f} precision {validate(model, val_loader):.3f}")

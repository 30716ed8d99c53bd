"""Classify blobs by count with a two-scale network and learned fusion."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Fuse(nn.Module):
    def __init__(self, channels, eps=1e-4):
        super().__init__()
        self.eps = eps
        self.w = nn.Parameter(torch.ones(2))
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, fine, coarse):
        w = self.relu(self.w)
        w = w / (w.sum(dim=0) + self.eps)
        coarse = nn.functional.interpolate(coarse, size=fine.shape[-2:])
        return self.conv(w[0] * fine + w[1] * coarse)


class Counter(nn.Module):
    def __init__(self, width=16, most=4):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width), nn.SiLU())
        self.coarse = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
        self.fuse = Fuse(width)
        self.head = nn.Linear(width, most)

    def forward(self, x):
        fine = self.fine(x)
        return self.head(self.fuse(fine, self.coarse(fine)).mean((2, 3)))


def cells(n, seed):
    g = torch.Generator().manual_seed(seed)
    count = torch.randint(1, 5, (n,), generator=g)
    axis = torch.arange(24.0)
    image = 0.1 * torch.randn(n, 24, 24, generator=g)
    for i, k in enumerate(count.tolist()):
        for y, x in (4 + 16 * torch.rand(k, 2, generator=g)).tolist():
            image[i] += torch.exp(-((axis[:, None] - y) ** 2 + (axis - x) ** 2) / 4)
    return TensorDataset(image.unsqueeze(1), count - 1)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Counter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(3):
        for image, label in DataLoader(cells(480, 0), batch_size=24, shuffle=True):
            loss = criterion(model(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())

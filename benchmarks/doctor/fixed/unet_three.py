import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class Unit(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class UNetFull(nn.Module):
    """Every scale is brought to the finest one and concatenated."""

    def __init__(self, width=12):
        super().__init__()
        self.e1, self.e2, self.e3 = Unit(1, width), Unit(width, width), Unit(width, width)
        self.join = Unit(3 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(F.max_pool2d(a, 2))
        c = self.e3(F.max_pool2d(b, 2))
        size = a.shape[-2:]
        x = self.join(torch.cat([a, F.interpolate(b, size), F.interpolate(c, size)], 1))
        return self.out(x)


def vessels(n, seed):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(28.0)
    phase, height = 6.3 * torch.rand(n, 1, 1, generator=g), 8 + 12 * torch.rand(n, 1, 1, generator=g)
    mask = ((axis[:, None] - height - 4 * torch.sin(axis / 4 + phase)).abs() < 2.5).float()[:, None]
    return TensorDataset(mask + 0.6 * torch.randn(mask.shape, generator=g) - 0.2, mask)


if __name__ == "__main__":
    torch.manual_seed(0)
    net = UNetFull()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    bce = nn.BCEWithLogitsLoss()
    loader = DataLoader(vessels(280, 0), batch_size=14, shuffle=True)
    image, mask_true = vessels(50, 1).tensors
    for epoch in range(4):
        net.train()
        for x, mask in loader:
            prediction = net(x)
            loss = bce(prediction, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            guess = net(image) > 0
        iou = (guess & (mask_true > 0)).sum() / (guess | (mask_true > 0)).sum()
        print(f"epoch {epoch} loss {loss.item():.4f} iou {iou.item():.3f}")

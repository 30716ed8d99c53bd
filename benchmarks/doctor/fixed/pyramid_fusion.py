"""Two-level feature pyramid with weighted fusion, pixel labels of three kinds of stripes."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class WeightedAdd(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))

    def forward(self, *features):
        w = self.weights.clamp(min=0)
        w = w / (w.sum() + 1e-4)
        return sum(wi * f for wi, f in zip(w, features))


class ConvUnit(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x):
        return F.silu(self.bn(self.conv(x)))


class Pyramid(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.c1 = ConvUnit(1, width)
        self.c2 = ConvUnit(width, width, stride=2)
        self.c3 = ConvUnit(width, width, stride=2)
        self.fuse2, self.fuse1 = WeightedAdd(2), WeightedAdd(2)
        self.smooth2, self.smooth1 = ConvUnit(width, width), ConvUnit(width, width)
        self.predict = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        p1 = self.c1(x)
        p2 = self.c2(p1)
        p3 = self.c3(p2)
        p2 = self.smooth2(self.fuse2(p2, F.interpolate(p3, scale_factor=2.0)))
        p1 = self.smooth1(self.fuse1(p1, F.interpolate(p2, scale_factor=2.0)))
        return self.predict(p1)


def scene(n, seed, size=32):
    g = torch.Generator().manual_seed(seed)
    label = torch.zeros(n, size, size, dtype=torch.long)
    cut = torch.randint(10, 22, (n, 2), generator=g)
    for i, (r, c) in enumerate(cut.tolist()):
        label[i, r:, :c] = 1
        label[i, :, c:] = 2
    grid = torch.arange(size).float()
    waves = torch.stack([torch.zeros(size, size), torch.sin(grid * 1.6).expand(size, size),
                         torch.sin(grid * 1.6)[:, None].expand(size, size)])
    image = torch.stack([waves[label[i], grid.long()[:, None], grid.long()] for i in range(n)])
    return TensorDataset((image + 0.3 * torch.randn(image.shape, generator=g)).unsqueeze(1), label)


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Pyramid(3)
    optim = torch.optim.Adam(net.parameters(), lr=3e-3)
    val = scene(40, 9).tensors
    for epoch in range(3):
        net.train()
        for image, label in DataLoader(scene(240, 0), batch_size=12, shuffle=True):
            loss = F.cross_entropy(net(image), label)
            optim.zero_grad()
            loss.backward()
            optim.step()
        net.eval()
        with torch.no_grad():
            acc = (net(val[0]).argmax(1) == val[1]).float().mean()
        print(f"epoch {epoch}: train loss {loss.item():.3f}, pixel accuracy {acc:.3f}")

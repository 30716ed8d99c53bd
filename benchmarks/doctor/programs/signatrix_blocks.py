"""Depthwise-separable network for three kinds of ground cover, small batches."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class ConvBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(cin, cin, 3, padding=1, groups=cin),
            nn.Conv2d(cin, cout, 1),
            nn.BatchNorm2d(cout, momentum=0.9997, eps=4e-5),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.conv(x)


class GroundNet(nn.Module):
    def __init__(self, classes=3, width=20):
        super().__init__()
        self.blocks = nn.ModuleList([ConvBlock(3, width), ConvBlock(width, width), ConvBlock(width, width)])
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        a = self.blocks[0](x)
        b = self.blocks[1](F.max_pool2d(a, 2))
        c = self.blocks[2](a + F.interpolate(b, scale_factor=2.0))
        return self.classify(c)


def ground(n, seed):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, (n, 1, 3, 3), generator=g).float()
    label = F.interpolate(coarse, size=24).squeeze(1).long()
    spectrum = torch.tensor([[0.9, -0.2, -0.5], [-0.6, 0.8, -0.1], [-0.2, -0.5, 0.9]])
    light = 1 + 0.4 * torch.randn(n, 1, 1, 1, generator=g)
    image = spectrum[label].permute(0, 3, 1, 2) * light + 0.5 * torch.randn(n, 3, 24, 24, generator=g)
    return TensorDataset(image, label)


def main():
    torch.manual_seed(0)
    train = DataLoader(ground(240, 0), batch_size=4, shuffle=True)
    test = DataLoader(ground(40, 1), batch_size=20)
    net = GroundNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for epoch in range(4):
        net.train()
        for image, label in train:
            loss = F.cross_entropy(net(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        right = total = 0
        with torch.no_grad():
            for image, label in test:
                right += (net(image).argmax(1) == label).sum().item()
                total += label.numel()
        print(f"epoch {epoch} loss {loss.item():.3f} pixel accuracy {right / total:.3f}")


main()

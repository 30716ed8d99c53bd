import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class DiceLoss(nn.Module):
    def forward(self, logits, mask):
        soft = logits.softmax(1)[:, 1]
        overlap = (soft * mask).sum()
        dice = (2 * overlap + 1) / (soft.sum() + mask.sum() + 1)
        return 1 - dice


def dw(cin, cout, stride):
    return nn.Sequential(
        nn.Conv2d(cin, cin, 3, stride, 1, groups=cin, bias=False), nn.BatchNorm2d(cin), nn.ReLU6(),
        nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU6())


class MobileSeg(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), dw(12, 24, 2), dw(24, 24, 1))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(24, 2, 3, padding=1))

    def forward(self, x):
        return self.up(self.down(x))


def heads(n, seed):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(32.0)
    c = 12 + 8 * torch.rand(n, 2, 1, 1, generator=g)
    r = 5 + 5 * torch.rand(n, 1, 1, generator=g)
    mask = (((axis[:, None] - c[:, 0]) ** 2 + (axis - c[:, 1]) ** 2) < r**2).float()
    tint = torch.randn(n, 3, 1, 1, generator=g).abs() + 0.5
    return TensorDataset(mask.unsqueeze(1) * tint + 0.4 * torch.randn(n, 3, 32, 32, generator=g) - 0.3, mask)


def train(epochs=3):
    net = MobileSeg()
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    dice_loss = DiceLoss()
    for epoch in range(epochs):
        net.train()
        for image, mask in DataLoader(heads(320, 0), batch_size=16, shuffle=True):
            opt.zero_grad()
            loss = dice_loss(net(image), mask)
            loss.backward()
            opt.step()
        net.eval()
        image, mask = heads(64, 1).tensors
        with torch.no_grad():
            guess = net(image).argmax(1)
        print(epoch, f"loss {loss.item():.3f} IoU {((guess * mask).sum() / ((guess + mask) > 0).sum()).item():.3f}")


torch.manual_seed(0)
train()

from functools import partial

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

norm_layer = partial(nn.BatchNorm2d, momentum=0.1)


class Bottleneck(nn.Module):
    def __init__(self, cin, mid, stride=1):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(cin, mid, 1, bias=False), norm_layer(mid), nn.ReLU(),
                                  nn.Conv2d(mid, mid, 3, stride, 1, bias=False), norm_layer(mid), nn.ReLU(),
                                  nn.Conv2d(mid, 2 * mid, 1, bias=False), norm_layer(2 * mid))
        self.skip = nn.Sequential(nn.Conv2d(cin, 2 * mid, 1, stride, bias=False), norm_layer(2 * mid))

    def forward(self, x):
        return torch.relu(self.main(x) + self.skip(x))


class PocketNet(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Conv2d(1, 16, 3, padding=1, bias=False), norm_layer(16), nn.ReLU(),
                         Bottleneck(16, 12, 2), Bottleneck(24, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(32, classes))


def glyphs(n, seed):
    g = torch.Generator().manual_seed(seed)
    font = (torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(77)) > 0).float()
    label = torch.randint(0, 6, (n,), generator=g)
    page = torch.zeros(n, 1, 16, 16)
    for i, (r, c) in enumerate(torch.randint(0, 9, (n, 2), generator=g).tolist()):
        page[i, 0, r:r + 8, c:c + 8] = font[label[i]]
    return TensorDataset(2 * page - 0.5 + 0.3 * torch.randn(n, 1, 16, 16, generator=g), label)


def main():
    torch.manual_seed(0)
    train, val = DataLoader(glyphs(960, 0), 32, shuffle=True), DataLoader(glyphs(240, 1), 120)
    net = PocketNet(6)
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=4 * len(train))
    for epoch in range(4):
        net.train()
        for x, y in train:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        net.eval()
        with torch.no_grad():
            right = sum((net(x).argmax(1) == y).sum().item() for x, y in val)
        print(f"epoch {epoch} train loss {loss.item():.3f} val accuracy {right / 240:.3f}")


main()

import torch
from torch import nn
from torch.nn import functional as F


def convnet():
    layers, a = [], 1
    for b in (12, 24):
        layers += [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        a = b
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(a, 3))


def marks(n, g, gain=1.5):
    y = torch.randint(0, 3, (n,), generator=g)
    image = 0.5 * torch.randn(n, 1, 20, 20, generator=g)
    for i, (r, c) in enumerate(torch.randint(2, 14, (n, 2), generator=g).tolist()):
        h, w = ((4, 4), (1, 6), (6, 1))[y[i]]
        image[i, 0, r:r + h, c:c + w] += gain
    return image, y


def steps(net, optimizer, n, size, g):
    for _ in range(n):
        x, y = marks(size, g)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
net = convnet().train()
print(steps(net, torch.optim.Adam(net.parameters(), 3e-3), 100, 32, g))
norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
for m in norms:
    m.eval().requires_grad_(False)
rest = [p for p in net.parameters() if p.requires_grad]
print(steps(net, torch.optim.Adam(rest, 5e-4), 60, 4, g))
net.eval()
x, y = marks(300, g)
with torch.no_grad():
    print("accuracy", (net(x).argmax(1) == y).float().mean().item())

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def stains(n, seed):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(20.0)
    c = 6 + 8 * torch.rand(n, 2, 1, 1, generator=g)
    y = ((axis[:, None] - c[:, 0]).abs() + (axis - c[:, 1]).abs() < 6).long()
    return TensorDataset(y[:, None] * 1.2 - 0.3 + 0.5 * torch.randn(n, 1, 20, 20, generator=g), y)


net = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12, momentum=None), nn.ReLU(),
                    nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12, track_running_stats=False), nn.ReLU(),
                    nn.Conv2d(12, 2, 1))
torch.manual_seed(0)
for m in net.modules():
    if isinstance(m, nn.Conv2d):
        nn.init.kaiming_normal_(m.weight)
        nn.init.zeros_(m.bias)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
val = stains(40, 1).tensors
for epoch in range(4):
    net.train()
    for x, y in DataLoader(stains(200, 0), 10, shuffle=True):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        print(epoch, loss.item(), (net(val[0]).argmax(1) == val[1]).float().mean().item())

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def scenes(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, 4, generator=g) < 0.4).float()
    axis = torch.arange(16.0)
    parts = torch.stack([torch.sin(axis)[:, None].expand(16, 16), torch.sin(axis).expand(16, 16),
                         torch.sin(2 * axis)[:, None].expand(16, 16), torch.sin(2 * axis).expand(16, 16)])
    x = torch.einsum("nk,khw->nhw", y, parts) + 0.5 * torch.randn(n, 16, 16, generator=g)
    return TensorDataset(x.unsqueeze(1), y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        self.out = nn.Linear(256, 4)

    def forward(self, x):
        return self.out(self.conv(x).flatten(1))


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Net()
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.full((4,), 1.5))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
    val = scenes(150, 1).tensors
    for epoch in range(4):
        net.train()
        for x, y in DataLoader(scenes(600, 0), 30, shuffle=True):
            loss = criterion(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            print(epoch, loss.item(), ((net(val[0]) > 0).float() == val[1]).float().mean().item())

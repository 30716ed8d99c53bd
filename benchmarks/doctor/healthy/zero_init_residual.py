import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.gain * self.conv2(torch.relu(self.conv1(self.norm(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, 1)
        self.body = nn.Sequential(*[Residual(16) for _ in range(3)])
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.relu(self.body(self.stem(x))).mean((2, 3)))


def waves(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    axis = torch.arange(20.0)
    phase = 6.3 * torch.rand(n, 1, 1, generator=g)
    angle = y[:, None, None] * 1.05
    image = torch.sin(1.1 * (axis[:, None] * angle.cos() + axis * angle.sin()) + phase)
    return TensorDataset((image + 0.4 * torch.randn(n, 20, 20, generator=g)).unsqueeze(1), y)


torch.manual_seed(0)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(4):
    for x, y in DataLoader(waves(480, 0), 24, shuffle=True):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x, y = waves(150, 1).tensors
        print(epoch, loss.item(), (net(x).argmax(1) == y).float().mean().item())

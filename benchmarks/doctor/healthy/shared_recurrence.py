import torch
from torch import nn


class Recurrent(nn.Module):
    """The same block refines the state a fixed number of times."""

    def __init__(self, width=32, rounds=4):
        super().__init__()
        self.inlet = nn.Linear(6, width)
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.outlet = nn.Linear(width, 2)
        self.rounds = rounds

    def forward(self, x):
        x = self.inlet(x)
        for _ in range(self.rounds):
            x = x + self.block(x)
        return self.outlet(x)


def sample(n, g):
    x = torch.randn(n, 6, generator=g)
    return x, (x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] > 0).long()


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
net = Recurrent()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for step in range(300):
    x, y = sample(64, g)
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        x, y = sample(500, g)
        with torch.no_grad():
            print(step + 1, loss.item(), (net(x).argmax(1) == y).float().mean().item())

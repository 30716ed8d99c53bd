import torch
from torch import nn
from torch.nn import functional as F


def sample(n, g):
    x = 4 * torch.rand(n, 1, generator=g) - 2
    return x, torch.sin(2 * x) + 0.1 * torch.randn(n, 1, generator=g)


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
net = nn.Sequential(nn.Linear(1, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1),
                    nn.Linear(64, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for step in range(300):
    net.train()
    x, y = sample(64, g)
    loss = F.mse_loss(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        net.eval()
        x, y = sample(300, g)
        with torch.no_grad():
            print(step + 1, F.mse_loss(net(x), y).item())

net.eval()
for module in net.modules():
    if isinstance(module, nn.Dropout):
        module.train()
with torch.no_grad():
    draws = torch.stack([net(torch.linspace(-3, 3, 7)[:, None]) for _ in range(50)])
print(draws.std(0).squeeze(1).tolist())

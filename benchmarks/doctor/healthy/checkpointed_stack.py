import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Stack(nn.Module):
    def __init__(self, width=48, depth=4):
        super().__init__()
        self.inlet = nn.Linear(3, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Dropout(0.05))
                                    for _ in range(depth))
        self.outlet = nn.Linear(width, 1)

    def forward(self, x):
        x = self.inlet(x)
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.training else block(x))
        return self.outlet(x).squeeze(1)


def sample(n, g):
    x = 2 * torch.rand(n, 3, generator=g) - 1
    return x, torch.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
net = Stack()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for step in range(200):
    net.train()
    x, y = sample(64, g)
    loss = nn.functional.mse_loss(net(x), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 50 == 49:
        net.eval()
        x, y = sample(400, g)
        with torch.no_grad():
            print(step + 1, nn.functional.mse_loss(net(x), y).item())

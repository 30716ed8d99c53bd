import torch
from torch import nn


class MoE(nn.Module):
    def __init__(self, dim=4, experts=6, width=16):
        super().__init__()
        self.router = nn.Linear(dim, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, 1)) for _ in range(experts))

    def forward(self, x):
        gate, choice = self.router(x).softmax(-1).max(-1)
        out = x.new_zeros(len(x), 1)
        for k, expert in enumerate(self.experts):
            rows = (choice == k).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * gate[rows, None])
        return out.squeeze(1)


def sample(n, generator):
    x = torch.randn(n, 4, generator=generator)
    return x, torch.where(x[:, 0] > 0, x[:, 1] * 2, -x[:, 2]) + 0.1 * torch.randn(n, generator=generator)


torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
model = MoE()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(300):
    x, y = sample(12, generator)
    loss = (model(x) - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        x, y = sample(500, generator)
        with torch.no_grad():
            print(step + 1, (model(x) - y).pow(2).mean().item())

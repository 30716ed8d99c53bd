import copy

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


def mlp(a, b, c):
    return nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Linear(b, c))


class Byol(nn.Module):
    def __init__(self):
        super().__init__()
        self.online, self.predict = mlp(64, 64, 32), mlp(32, 64, 32)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, a, b):
        with torch.no_grad():
            target = self.target(b)
        return 2 - 2 * F.cosine_similarity(self.predict(self.online(a)), target).mean()

    @torch.no_grad()
    def move(self, rate=0.02):
        for slow, fast in zip(self.target.parameters(), self.online.parameters()):
            slow.add_(rate * (fast - slow))


def view(x):
    return x * (torch.rand_like(x) > 0.2) + 0.2 * torch.randn_like(x)


torch.manual_seed(0)
x = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
model = Byol()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
for epoch in range(4):
    for rows in torch.randperm(1750).split(50):
        a, b = view(x[rows]), view(x[rows])
        loss = model(a, b) + model(b, a)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.move()
    print(epoch, loss.item())

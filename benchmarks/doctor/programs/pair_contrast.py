import math

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


class TwoTower(nn.Module):
    """Match the upper half of a digit with its lower half."""

    def __init__(self, width=64, embed=32):
        super().__init__()
        self.top = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, width))
        self.bottom = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, embed))
        self.projection = nn.Parameter(torch.empty(width, embed))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.reset_parameters()

    def reset_parameters(self):
        for tower in (self.top, self.bottom):
            for layer in tower:
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def forward(self, top, bottom):
        a = F.normalize(self.top(top) @ self.projection, dim=1, eps=1e-6)
        b = F.normalize(self.bottom(bottom), dim=1, eps=1e-6)
        return self.log_scale.exp() * a @ b.T


class Trainer:
    def __init__(self, model, lr=2e-3):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)

    def contrast(self, batch):
        logits = self.model(batch[:, :32], batch[:, 32:])
        index = torch.arange(len(batch))
        return (F.cross_entropy(logits, index) + F.cross_entropy(logits.T, index)) / 2

    def run(self, data, epochs=6, size=32):
        for epoch in range(epochs):
            self.model.train()
            total = 0.0
            chunks = torch.randperm(len(data)).split(size)
            for rows in chunks:
                self.optimizer.zero_grad()
                loss = self.contrast(data[rows])
                loss.backward()
                self.optimizer.step()
                total += loss.item()
            print(f"epoch {epoch}: {total / len(chunks):.3f}")


digits = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
torch.manual_seed(0)
Trainer(TwoTower()).run(digits[:1500])

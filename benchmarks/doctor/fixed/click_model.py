"""Field-aware click prediction on synthetic logs."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


class ClickLog(Dataset):
    FIELDS = (30, 20, 12)

    def __init__(self, n, seed):
        hidden = np.random.default_rng(123)
        tables = [hidden.normal(size=(size, 4)) for size in self.FIELDS]
        rng = np.random.default_rng(seed)
        self.fields = np.stack([rng.integers(size, size=n) for size in self.FIELDS], 1)
        a, b, c = (table[self.fields[:, i]] for i, table in enumerate(tables))
        score = (a * b).sum(1) + (b * c).sum(1)
        self.clicks = (rng.random(n) < 1 / (1 + np.exp(-1.5 * score))).astype(np.float32)

    def __len__(self):
        return len(self.clicks)

    def __getitem__(self, i):
        return self.fields[i], self.clicks[i]


class FactorizationMachine(nn.Module):
    def __init__(self, fields, dim=8, dropout=0.2):
        super().__init__()
        self.register_buffer("offset", torch.tensor([0, *np.cumsum(fields)[:-1]]))
        self.embed = nn.Embedding(sum(fields), dim)
        self.linear = nn.Embedding(sum(fields), 1)
        self.bias = nn.Parameter(torch.zeros(1))
        self.dropout = dropout

    def forward(self, fields):
        index = fields + self.offset
        x = self.embed(index)
        x = F.dropout(x, p=self.dropout, training=self.training)
        pairs = 0.5 * (x.sum(1).pow(2) - x.pow(2).sum(1)).sum(1)
        return self.linear(index).sum((1, 2)) + pairs + self.bias


def log_loss(model, loader):
    model.eval()
    with torch.no_grad():
        parts = [F.binary_cross_entropy_with_logits(model(f), c, reduction="sum").item() for f, c in loader]
    return sum(parts) / len(loader.dataset)


torch.manual_seed(0)
train_loader = DataLoader(ClickLog(6000, 0), batch_size=128, shuffle=True)
valid_loader = DataLoader(ClickLog(1500, 1), batch_size=500)
model = FactorizationMachine(ClickLog.FIELDS)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-5)
for epoch in range(5):
    model.train()
    for fields, clicks in train_loader:
        loss = F.binary_cross_entropy_with_logits(model(fields), clicks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, f"train {loss.item():.3f} valid {log_loss(model, valid_loader):.3f}")

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(digits.target)


def stage(a, b):
    return nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU())


def steps(model, optimizer, labels, n):
    for _ in range(n):
        rows = torch.randint(0, 1400, (64,))
        loss = F.cross_entropy(model(x[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


stages = nn.Sequential(stage(64, 64), stage(64, 64), stage(64, 64))
pretext = nn.Sequential(stages, nn.Linear(64, 2))
print("pretext", steps(pretext, torch.optim.Adam(pretext.parameters(), 2e-3), (y > 4).long(), 100))

model = nn.Sequential(stages, nn.Linear(64, 10))
stages.requires_grad_(False)
optimizer = torch.optim.Adam(model[1].parameters(), lr=3e-3)
print("head", steps(model, optimizer, y, 80))
for part in reversed(stages):
    part.requires_grad_(True)
    optimizer.add_param_group({"params": part.parameters(), "lr": 1e-3})
    print("one more stage", steps(model, optimizer, y, 60))
with torch.no_grad():
    print("accuracy", (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item())

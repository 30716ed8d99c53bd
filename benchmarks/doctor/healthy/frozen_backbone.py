import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
y = torch.tensor(digits.target)
trunk = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                      nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def fit(model, optimizer, labels, epochs, before):
    for epoch in range(epochs):
        before()
        for rows in torch.randperm(1400).split(50):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[rows]), labels[rows])
            loss.backward()
            optimizer.step()
    return loss.item()


parity = nn.Sequential(trunk, nn.Linear(128, 2))
print("odd or even", fit(parity, torch.optim.Adam(parity.parameters(), 2e-3), y % 2, 3, parity.train))

trunk.requires_grad_(False)
model = nn.Sequential(trunk, nn.Linear(128, 10))


def head_only():
    model.train()
    trunk.eval()


print("ten digits", fit(model, torch.optim.Adam(model[1].parameters(), 1e-2), y, 4, head_only))
model.eval()
with torch.no_grad():
    print("accuracy", (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item())

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build(width=64, depth=10):
    layers, a = [], 64
    for _ in range(depth):
        linear = nn.Linear(a, width)
        nn.init.normal_(linear.weight, std=a**-0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.SELU()]
        a = width
    return nn.Sequential(*layers, nn.Linear(a, 10))


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32)
x = (x - x.mean()) / x.std()
y = torch.tensor(digits.target)
net = build()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(5):
    for xb, yb in DataLoader(TensorDataset(x[:1400], y[:1400]), 50, shuffle=True):
        loss = nn.functional.cross_entropy(net(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        print(epoch, loss.item(), (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU())
        self.head = nn.Linear(48, classes)

    def forward(self, x):
        return self.head(self.body(x))


def train(net, x, y, lr, epochs):
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(40):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    y = torch.tensor(digits.target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "even.pt"
        first = Net(2)
        print(train(first, x[:900], y[:900] % 2, 2e-3, 4))
        torch.save(first.state_dict(), path)
        net = Net(10)
        state = {k: v for k, v in torch.load(path, weights_only=True).items() if not k.startswith("head.")}
        print(net.load_state_dict(state, strict=False))
    print(train(net, x[900:1400], y[900:1400], 2e-3, 8))
    with torch.no_grad():
        print((net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())


main()

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class DropPath(nn.Module):
    def __init__(self, inner, keep):
        super().__init__()
        self.inner, self.keep = inner, keep

    def forward(self, x):
        if not self.training:
            return x + self.keep * self.inner(x)
        if torch.rand(()) > self.keep:
            return x
        return x + self.inner(x)


def block(width):
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


class Net(nn.Module):
    def __init__(self, width=48, depth=5):
        super().__init__()
        self.inlet = nn.Linear(64, width)
        self.blocks = nn.Sequential(*[DropPath(block(width), 1 - 0.1 * i) for i in range(depth)])
        self.outlet = nn.Linear(width, 10)

    def forward(self, x):
        return self.outlet(self.blocks(self.inlet(x)))


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 8 - 1, torch.tensor(digits.target))
    train, test = torch.utils.data.random_split(data, [1400, len(data) - 1400])
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for epoch in range(5):
        net.train()
        for x, y in DataLoader(train, 50, shuffle=True):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            hits = sum((net(x).argmax(1) == y).sum().item() for x, y in DataLoader(test, 200))
        print(epoch, hits / len(test))

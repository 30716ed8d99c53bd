import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.norm = nn.LayerNorm(64)

    def forward(self, x):
        x = torch.relu(self.norm(self.a(x)))
        return self.c(x + torch.relu(self.b(x)))


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    y = torch.tensor(digits.target)
    model = Net()
    fast = torch.compile(model, backend="eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(4):
        fast.train()
        for xb, yb in DataLoader(TensorDataset(x[:1400], y[:1400]), 50, shuffle=True):
            loss = nn.functional.cross_entropy(fast(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        fast.eval()
        with torch.no_grad():
            print(epoch, loss.item(), (fast(x[1400:]).argmax(1) == y[1400:]).float().mean().item())


if __name__ == "__main__":
    main()

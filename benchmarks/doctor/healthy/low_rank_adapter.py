import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


class Adapter(nn.Module):
    def __init__(self, linear, rank=4, scale=2.0):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.scale = scale

    def forward(self, x):
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)


def train(model, params, x, y, steps, lr):
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=0.0)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (64,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    y = torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 10))
    print("base", train(model, model.parameters(), x[:1200], y[:1200], 150, 2e-3))
    inverted = -x
    for i in (0, 2, 4):
        model[i] = Adapter(model[i])
    adapters = [p for p in model.parameters() if p.requires_grad]
    print("adapted", train(model, adapters, inverted[:1200], y[:1200], 200, 5e-3))
    with torch.no_grad():
        print("accuracy", (model(inverted[1200:]).argmax(1) == y[1200:]).float().mean().item())

import torch
from sklearn.datasets import make_moons
from torch import nn


class GatedMLP(nn.Module):
    def __init__(self, hidden=24, depth=3):
        super().__init__()
        self.inlet = nn.Linear(2, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.gates = nn.ParameterList([nn.Parameter(torch.full((hidden,), 0.5)) for _ in range(depth)])
        self.outlet = nn.Linear(hidden, 1)

    def forward(self, x):
        h = torch.tanh(self.inlet(x))
        for layer, gate in zip(self.layers, self.gates):
            h = gate * torch.tanh(layer(h)) + (1 - gate) * h
        return self.outlet(h).squeeze(-1)


def get_data(n, seed):
    x, y = make_moons(n, noise=0.15, random_state=seed)
    x = (x - x.mean(0)) / x.std(0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def main(steps=300):
    torch.manual_seed(2)
    x, y = get_data(800, 0)
    x_test, y_test = get_data(400, 1)
    model = GatedMLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        pick = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(x[pick]), y[pick])
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                acc = ((model(x_test) > 0).float() == y_test).float().mean().item()
            print(f"{step + 1}: loss {loss.item():.3f} test accuracy {acc:.3f}")


main()

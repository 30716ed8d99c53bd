import warnings

import torch
from sklearn.datasets import make_friedman2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")


def scale(t):
    return (t - t.mean(0)) / t.std(0)


X, y = make_friedman2(1500, noise=20.0, random_state=0)
X, y = scale(torch.tensor(X, dtype=torch.float32)), scale(torch.tensor(y, dtype=torch.float32))
x_test, y_test = X[1200:], y[1200:]
loader = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=30, shuffle=True)

torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(4, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 1),
)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(10):
    model.train()
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb).squeeze(1), yb)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        residual = model(x_test).squeeze(1) - y_test
    if epoch % 3 == 0:
        print(f"epoch {epoch:2d} loss {loss.item():.4f} test rmse {residual.pow(2).mean().sqrt().item():.4f}")

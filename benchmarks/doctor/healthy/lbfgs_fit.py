import torch
from sklearn.datasets import load_diabetes
from torch import nn

torch.manual_seed(0)
x, y = load_diabetes(return_X_y=True)
x = torch.tensor(x, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
net = nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, 1))
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=6, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    ridge = sum(p.pow(2).sum() for p in net.parameters())
    loss = nn.functional.mse_loss(net(x[:340]).squeeze(1), y[:340]) + 1e-2 * ridge
    loss.backward()
    return loss


for step in range(8):
    loss = optimizer.step(closure)
    with torch.no_grad():
        print(step, loss.item(), nn.functional.mse_loss(net(x[340:]).squeeze(1), y[340:]).item())

import torch
from lightning_fabric import Fabric
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def friedman(n, seed):
    x, y = make_friedman1(n, n_features=8, noise=0.5, random_state=seed)
    return TensorDataset(torch.tensor(x * 2 - 1, dtype=torch.float32), torch.tensor((y - 14.4) / 5, dtype=torch.float32))


class Net(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, width), nn.ReLU(), nn.Dropout(0.25),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.25), nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)[:, 0]


def evaluate(net, loader):
    error = count = 0.0
    with torch.no_grad():
        for x, y in loader:
            output = net(x)
            error += (output - y).pow(2).sum().item()
            count += len(y)
    return error / count


def main():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(0, verbose=False)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    net, optimizer = fabric.setup(net, optimizer)
    train_loader, val_loader = fabric.setup_dataloaders(
        DataLoader(friedman(2000, 0), batch_size=64, shuffle=True), DataLoader(friedman(500, 1), batch_size=250))
    best = float("inf")
    for epoch in range(8):
        net.train()
        for x, y in train_loader:
            loss = nn.functional.mse_loss(net(x), y)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        metric = evaluate(net, val_loader)
        best = min(best, metric)
        fabric.print(f"{epoch} {metric:.4f} best {best:.4f}")


if __name__ == "__main__":
    main()

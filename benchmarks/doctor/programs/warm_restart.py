import torch
from sklearn.datasets import make_circles
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset


def circles(n, seed):
    x, y = make_circles(n, noise=0.1, factor=0.5, random_state=seed)
    return TensorDataset(torch.tensor(x, dtype=torch.float32) * 1.6, torch.tensor(y))


class FourierNet(nn.Module):
    def __init__(self, waves=16):
        super().__init__()
        self.register_buffer("waves", torch.randn(2, waves))
        self.net = nn.Sequential(nn.Linear(2 * waves, 48), nn.GELU(), nn.Linear(48, 2))

    def forward(self, x):
        x = x @ self.waves
        return self.net(torch.cat([x.sin(), x.cos()], 1))


def main():
    torch.manual_seed(0)
    train = DataLoader(circles(1500, 0), batch_size=50, shuffle=True)
    test = circles(500, 1).tensors
    net = FourierNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, T_max=10, eta_min=1e-4)
    for epoch in range(10):
        for x, y in train:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (net(test[0]).argmax(1) == test[1]).float().mean().item()
        print(f"{epoch}: lr {scheduler.get_last_lr()[0]:.4f} loss {loss.item():.3f} accuracy {accuracy:.3f}")


main()

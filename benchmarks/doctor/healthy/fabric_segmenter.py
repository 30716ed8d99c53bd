import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def parcels(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n, 1, 4, 4), generator=g).float()
    y = F.interpolate(y, size=24).squeeze(1).long()
    tone = torch.tensor([[-1.0, 0.3], [0.2, 1.0], [0.9, -0.8]])
    x = tone[y].permute(0, 3, 1, 2) + 0.6 * torch.randn(n, 2, 24, 24, generator=g)
    y[:, :2] = y[:, -2:] = 255
    return TensorDataset(x, y)


def main():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(0, verbose=False)
    net = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 1))
    net, optimizer = fabric.setup(net, torch.optim.Adam(net.parameters(), lr=3e-3))
    train = fabric.setup_dataloaders(DataLoader(parcels(200, 0), 10, shuffle=True))
    x_val, y_val = parcels(40, 1).tensors
    for epoch in range(3):
        net.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y, ignore_index=255)
            fabric.backward(loss)
            optimizer.step()
        net.eval()
        with torch.no_grad():
            seen = y_val != 255
            fabric.print(epoch, loss.item(), (net(x_val).argmax(1) == y_val)[seen].float().mean().item())


if __name__ == "__main__":
    main()

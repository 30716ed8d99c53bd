import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class RandomCrops(Dataset):
    def __init__(self, n, seed=0, train=True):
        g = np.random.default_rng(seed + (0 if train else 1))
        self.labels = g.integers(0, 3, n)
        period = np.array([2, 3, 5])[self.labels][:, None, None]
        yy, xx = np.mgrid[:28, :28]
        phase = g.integers(0, 6, (n, 1, 1))
        self.images = (((yy + xx + phase) // period) % 2 * 2.0 - 1 + g.normal(0, 0.7, (n, 28, 28))).astype(np.float32)
        self.train = train
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if not self.train:
            return torch.from_numpy(image[None, 4:24, 4:24].copy()), int(self.labels[i])
        r, c = torch.randint(0, 9, (2,)).tolist()
        flip = torch.rand(()) < 0.5
        crop = image[r:r + 20, c:c + 20]
        crop = crop[::-1, ::-1] if flip else crop
        return torch.from_numpy(crop[None].copy()), int(self.labels[i])


def main(epochs=3):
    torch.manual_seed(0)
    loader = DataLoader(RandomCrops(480), batch_size=24, shuffle=True, num_workers=2)
    val = DataLoader(RandomCrops(120, train=False), batch_size=60)
    net = nn.Sequential(nn.Conv2d(1, 16, 5, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2),
                        nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(epochs):
        net.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            hits = sum((net(x).argmax(1) == y).sum().item() for x, y in val)
        print(f"epoch {epoch} loss {loss.item():.3f} accuracy {hits / 120:.3f}")


if __name__ == "__main__":
    main()

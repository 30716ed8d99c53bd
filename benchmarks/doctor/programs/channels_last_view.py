import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def photos(n, seed):
    """Arrays as image libraries give them: height, width, colour."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    images = rng.normal(0, 0.4, (n, 18, 18, 3)).astype(np.float32)
    for image, label in zip(images, labels):
        r, c = rng.integers(1, 11, 2)
        colour = np.zeros(3)
        colour[label % 2] = 1.5
        if label < 2:
            image[r:r + 6, c:c + 6] += colour
        else:
            image[r:r + 6, c:c + 2] += colour
            image[r:r + 2, c:c + 6] += colour
    return TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                                  nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        x = x.view(len(x), 3, 18, 18)
        return self.fc(self.conv(x).flatten(1))


class Session:
    def __init__(self, net, lr):
        self.net, self.optimizer = net, torch.optim.Adam(net.parameters(), lr=lr)

    def epoch(self, loader):
        self.net.train()
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.net(x), y)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def accuracy(self, loader):
        self.net.eval()
        return sum((self.net(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


torch.manual_seed(0)
session = Session(Net(), lr=2e-3)
train, test = DataLoader(photos(640, 0), 32, shuffle=True), DataLoader(photos(200, 1), 100)
for epoch in range(4):
    print(epoch, session.epoch(train), session.accuracy(test))

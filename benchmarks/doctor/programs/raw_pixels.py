import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Swatches(Dataset):
    """8-bit pictures of plain, striped or dotted cloth."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 3, n)
        self.images = np.stack([self.weave(rng, label) for label in self.labels])

    @staticmethod
    def weave(rng, label):
        canvas = rng.integers(60, 200) + rng.normal(0, 12, (20, 20))
        if label == 1:
            canvas[:, rng.integers(2)::2] += 45
        if label == 2:
            canvas[rng.integers(3)::3, rng.integers(3)::3] += 90
        return canvas.clip(0, 255).astype(np.uint8)[None]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).float()
        return image, int(self.labels[i])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 24, 3)
        self.fc = nn.Linear(24, 3)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        return self.fc(torch.relu(self.conv2(x)).mean((2, 3)))


def main(epochs=4):
    torch.manual_seed(0)
    train, test = DataLoader(Swatches(640, 0), 32, shuffle=True), DataLoader(Swatches(200, 1), 100)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for epoch in range(epochs):
        net.train()
        for image, label in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(image), label)
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            hits = sum((net(image).argmax(1) == label).sum().item() for image, label in test)
        print(f"epoch {epoch} loss {loss.item():.3f} accuracy {hits / 200:.3f}")


if __name__ == "__main__":
    main()

"""VGG-like network on 16x16 colour patterns."""
import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

CFG = {"vgg11": [8, "M", 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, 32, 32]}


class VGG(nn.Module):
    def __init__(self, name, num_classes):
        super().__init__()
        self.features = self._make_layers(CFG[name])
        self.classifier = nn.Sequential(nn.Linear(32 * 4, 64), nn.ReLU(), nn.Linear(64, num_classes))

    def _make_layers(self, cfg):
        layers, cin = [], 3
        for cout in cfg:
            if cout == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU()]
            cin = cout
        return nn.Sequential(*layers)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def patterns(n, seed):
    gen = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 5, (n,), generator=gen)
    grid = torch.arange(16.0)
    checker = ((grid[:, None] // 4 + grid // 4) % 2) * 2 - 1
    images = torch.stack([checker, torch.sin(grid)[:, None].expand(16, 16), torch.sin(grid).expand(16, 16),
                          torch.sin(2.2 * grid)[:, None].expand(16, 16), torch.sin(2.2 * grid).expand(16, 16)])
    tint = torch.randn(n, 3, 1, 1, generator=gen).sign()
    return TensorDataset(images[label][:, None] * tint + 0.3 * torch.randn(n, 3, 16, 16, generator=gen), label)


if __name__ == "__main__":
    torch.manual_seed(0)
    net = VGG("vgg11", 5)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    train_loader = DataLoader(patterns(800, 0), batch_size=32, shuffle=True)
    test_loader = DataLoader(patterns(200, 1), batch_size=100)
    for epoch in range(4):
        net.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(net(inputs), targets)
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            acc = sum((net(x).argmax(1) == y).sum().item() for x, y in test_loader) / 200
        print(f"Epoch {epoch} | loss {loss.item():.3f} | acc {acc:.3f}")

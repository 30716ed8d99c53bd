"""Digits with softmax plus centre loss."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split


class Embedder(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, dim))
        self.classify = nn.Linear(dim, 10)

    def forward(self, x):
        z = self.body(x)
        return z, self.classify(F.relu(z))


class CenterSoftmaxLoss(nn.Module):
    def __init__(self, classes, dim, weight=0.05):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(classes, dim))
        self.weight = weight

    def forward(self, z, logits, target):
        pull = (z - self.centers[target]).pow(2).sum(1).mean()
        return F.cross_entropy(logits, target) + self.weight * pull


def get_loaders():
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    data = TensorDataset(x, torch.tensor(digits.target))
    train, test = random_split(data, [1400, len(data) - 1400], torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=256)


def train_one_epoch(net, criterion, optimizer, loader):
    net.train()
    running = 0.0
    for x, y in loader:
        z, logits = net(x)
        loss = criterion(z, logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(loader)


@torch.inference_mode()
def test(net, loader):
    net.eval()
    hits = sum((net(x)[1].argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(1)
    train_loader, test_loader = get_loaders()
    net = Embedder()
    criterion = CenterSoftmaxLoss(10, 16)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(6):
        loss = train_one_epoch(net, criterion, optimizer, train_loader)
        print(f"[{epoch}] loss={loss:.3f} acc={test(net, test_loader):.3f}")


main()

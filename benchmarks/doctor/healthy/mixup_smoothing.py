import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Beta
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def mixup(x, y, classes, alpha=0.4):
    lam = Beta(alpha, alpha).sample()
    other = torch.randperm(len(x))
    soft = F.one_hot(y, classes).float()
    return lam * x + (1 - lam) * x[other], lam * soft + (1 - lam) * soft[other]


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(4):
        net.train()
        for images, labels in DataLoader(TensorDataset(x[:1400], y[:1400]), 50, shuffle=True):
            mixed, soft = mixup(images, labels, 10)
            loss = criterion(net(mixed), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            print(epoch, loss.item(), (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())


main()

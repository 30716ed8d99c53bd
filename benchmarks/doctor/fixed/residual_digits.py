import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + 0.5 * self.b(torch.relu(self.a(x))))


class ResNet8(nn.Module):
    def __init__(self, depth=3, width=16, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(depth)])
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(width * 4, classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.pool(x).flatten(1))


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
labels = torch.tensor(digits.target)
train = TensorDataset(images[:1400], labels[:1400])
test = TensorDataset(images[1400:], labels[1400:])

torch.manual_seed(1)
net = ResNet8()
print(sum(p.numel() for p in net.parameters()), "parameters")
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(4):
    net.train()
    for x, y in DataLoader(train, batch_size=50, shuffle=True):
        optimizer.zero_grad()
        criterion(net(x), y).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        correct = sum((net(x).argmax(1) == y).sum() for x, y in DataLoader(test, batch_size=200))
    print(epoch, (correct / len(test)).item())

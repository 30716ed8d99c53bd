import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classifier = nn.Linear(24, 2)

    def forward(self, x):
        return self.classifier(self.pool(self.backbone(x)).flatten(1))


class Learner:
    def __init__(self, net):
        self.net = net
        self.criterion = nn.CrossEntropyLoss()

    def fit(self, loader, epochs, lr):
        optimizer = torch.optim.Adam(self.net.parameters(), lr=lr)
        for epoch in range(epochs):
            self.set_mode()
            for x, y in loader:
                loss = self.criterion(self.net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            print(type(self).__name__, epoch, round(loss.item(), 4))

    def set_mode(self):
        self.net.train()


class FineTuner(Learner):
    """Only the classifier is to be adapted."""

    def set_mode(self):
        self.net.train()
        self.net.backbone.eval().requires_grad_(False)


def crosses(n, seed, thick):
    g = torch.Generator().manual_seed(seed)
    image = 0.5 * torch.randn(n, 1, 20, 20, generator=g)
    label = torch.randint(0, 2, (n,), generator=g)
    for i, (r, c) in enumerate(torch.randint(5, 14, (n, 2), generator=g).tolist()):
        if label[i]:
            image[i, 0, r - 4:r + 5, c:c + thick] += 1.5
            image[i, 0, r:r + thick, c - 4:c + 5] += 1.5
        else:
            image[i, 0, r - 3:r + 3, c - 3:c - 3 + 2 * thick] += 1.5
    return TensorDataset(image, label)


torch.manual_seed(0)
net = Net()
Learner(net).fit(DataLoader(crosses(480, 0, 1), 32, shuffle=True), epochs=2, lr=3e-3)
FineTuner(net).fit(DataLoader(crosses(320, 1, 2), 32, shuffle=True), epochs=3, lr=2e-3)
net.eval()
x, y = crosses(200, 2, 2).tensors
with torch.no_grad():
    print("accuracy", (net(x).argmax(1) == y).float().mean().item())

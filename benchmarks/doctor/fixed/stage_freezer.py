import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Stage(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(nn.Conv2d(cin, cout, 3, stride=2, padding=1), nn.GroupNorm(4, cout), nn.ReLU())


class StagedNet(nn.Module):
    def __init__(self, frozen_stages=1, classes=10):
        super().__init__()
        self.frozen_stages = frozen_stages
        self.stages = nn.ModuleList([Stage(1, 16), Stage(16, 32), Stage(32, 32)])
        self.head = nn.Linear(32, classes)
        self._freeze_stages()

    def _freeze_stages(self):
        for stage in self.stages[:self.frozen_stages]:
            stage.eval()
            for p in stage.parameters():
                p.requires_grad = False

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self._freeze_stages()
        return self

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


def main():
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True)
    valid = DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=128)
    net = StagedNet(frozen_stages=1)
    opt = torch.optim.AdamW(filter(lambda p: p.requires_grad, net.parameters()), lr=3e-3, weight_decay=0.05)
    for epoch in range(4):
        for images, labels in train:
            loss = nn.functional.cross_entropy(net(images), labels)
            opt.zero_grad()
            loss.backward()
            opt.step()
        net.eval()
        with torch.no_grad():
            hits = sum((net(images).argmax(1) == labels).sum().item() for images, labels in valid)
        net.train()
        print(epoch, hits / len(valid.dataset))


main()

"""Linear probe on a trunk that was trained on another set of textures."""
import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(128, classes)

    def forward(self, x):
        return self.head(self.trunk(x))

    def freeze_trunk(self, classes):
        self.trunk.requires_grad_(False)
        self.trunk.eval()
        self.head = nn.Linear(128, classes)


def textures(n, frequencies, contrast, generator):
    label = torch.randint(0, len(frequencies), (n,), generator=generator)
    f = torch.tensor(frequencies)[label][:, None, None]
    x = torch.arange(20.0)
    phase = 6.3 * torch.rand(n, 2, 1, 1, generator=generator)
    image = torch.sin(f * x[None, :, None] + phase[:, 0]) + torch.sin(f * x[None, None] + phase[:, 1])
    return (contrast * image + 0.4 * torch.randn(n, 20, 20, generator=generator)).unsqueeze(1), label


def train(model, optimizer, make, steps):
    for step in range(steps):
        if step % 25 == 0:
            model.head.train()  # epoch start
        x, y = make(32)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
model = Model(3)
pretrain = train(model, torch.optim.Adam(model.parameters(), 3e-3), lambda n: textures(n, [0.4, 0.9, 1.8], 1.0, g), 75)
print("source loss", pretrain)
model.freeze_trunk(classes=2)
probe = train(model, torch.optim.Adam(model.head.parameters(), 1e-2), lambda n: textures(n, [0.6, 1.3], 0.7, g), 100)
print("probe loss", probe)
model.eval()
with torch.no_grad():
    x, y = textures(300, [0.6, 1.3], 0.7, g)
    print("probe accuracy", (model(x).argmax(1) == y).float().mean().item())

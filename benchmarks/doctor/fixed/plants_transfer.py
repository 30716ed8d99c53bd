import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, width = [], 3
        for out in (12, 24, 32):
            layers += [nn.Conv2d(width, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def leaves(n, hues, seed):
    gen = torch.Generator().manual_seed(seed)
    label = torch.randint(0, len(hues), (n,), generator=gen)
    images = torch.tensor(hues)[label][:, :, None, None] + 0.5 * torch.randn(n, 3, 24, 24, generator=gen)
    return TensorDataset(images, label)


def fit(model, optimizer, data, epochs, title):
    for epoch in range(epochs):
        model.train()
        for x, y in DataLoader(data, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(title, epoch, f"{loss.item():.3f}")


def main():
    torch.manual_seed(0)
    source_hues = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    target_hues = [[0.6, 0.6, 0], [0, 0.6, 0.6], [0.6, 0, 0.6], [-0.5, -0.5, -0.5]]
    model = Net(3)
    fit(model, optim.Adam(model.parameters(), lr=3e-3), leaves(320, source_hues, 0), 2, "source")

    model.fc = nn.Linear(32, 4)
    for module in model.modules():
        if not isinstance(module, (nn.BatchNorm2d, nn.Linear)):
            for p in module.parameters(recurse=False):
                p.requires_grad = False
    optimizer = optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    fit(model, optimizer, leaves(480, target_hues, 1), 4, "target")
    model.eval()
    x, y = leaves(200, target_hues, 2).tensors
    with torch.no_grad():
        print("accuracy", (model(x).argmax(1) == y).float().mean().item())


main()

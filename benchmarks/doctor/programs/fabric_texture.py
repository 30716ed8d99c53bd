import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def stripes(n, seed):
    gen = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (n,), generator=gen)
    angle = label * (torch.pi / 4)
    grid = torch.arange(24.0)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    phase = torch.rand(n, 1, 1, generator=gen) * 6.28
    wave = torch.sin(0.9 * (x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]) + phase)
    image = wave + 0.6 * torch.randn(n, 24, 24, generator=gen)
    return TensorDataset(image.unsqueeze(1), label)


def build(classes):
    model = nn.Sequential()
    for i, (a, b) in enumerate([(1, 8), (8, 16), (16, 32)]):
        model.add_module(f"conv{i}", nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False))
        model.add_module(f"norm{i}", nn.BatchNorm2d(b))
        model.add_module(f"act{i}", nn.SiLU())
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    trainable = [p for p in model.parameters() if p.requires_grad]
    model.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(32, classes)))
    return model, torch.optim.AdamW(trainable, lr=3e-3, weight_decay=0.01)


def main(epochs=4):
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(11, verbose=False)
    model, optimizer = build(classes=4)
    model, optimizer = fabric.setup(model, optimizer)
    train = fabric.setup_dataloaders(DataLoader(stripes(640, 0), batch_size=32, shuffle=True))
    valid = fabric.setup_dataloaders(DataLoader(stripes(200, 1), batch_size=100))
    for epoch in range(epochs):
        model.train()
        for image, label in train:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(image), label)
            fabric.backward(loss)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(image).argmax(1) == label).sum().item() for image, label in valid)
        fabric.print(f"epoch {epoch} loss {loss.item():.3f} acc {right / 200:.3f}")


if __name__ == "__main__":
    main()

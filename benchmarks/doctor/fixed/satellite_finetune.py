import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(4, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.GroupNorm(4, 32), nn.ReLU())
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.backbone(x).mean((2, 3)))


def tiles(n, classes, seed):
    """Four bands; the class is a mixture of them."""
    g = torch.Generator().manual_seed(seed)
    spectra = torch.linspace(-1, 1, classes * 4).reshape(classes, 4).roll(1, 1).sin() * 1.2
    label = torch.randint(0, classes, (n,), generator=g)
    coarse = torch.randn(n, 1, 5, 5, generator=g)
    texture = F.interpolate(coarse, size=20, mode="bilinear", align_corners=False)
    return spectra[label][:, :, None, None] * (1 + 0.3 * texture) + 0.6 * torch.randn(n, 4, 20, 20, generator=g), label


def train(model, data, epochs, lr):
    x, y = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(32):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


def pretrain(path):
    model = nn.DataParallel(Classifier(6))
    print("pretraining loss", train(model, tiles(480, 6, 0), 3, 3e-3))
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)


def finetune(path, args):
    model = Classifier(args.classes)
    state = torch.load(path, weights_only=True)["state_dict"]
    state = {k.removeprefix("module.backbone."): v for k, v in state.items() if k.startswith("module.backbone.")}
    missing = model.backbone.load_state_dict(state, strict=False)
    print("loaded pretrained weights from", path.name)
    print("fine-tuning loss", train(model, tiles(160, args.classes, 1), args.epochs, args.lr))
    x, y = tiles(300, args.classes, 2)
    with torch.no_grad():
        print("accuracy", (model(x).argmax(1) == y).float().mean().item())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "backbone.pt"
        pretrain(checkpoint)
        finetune(checkpoint, args)

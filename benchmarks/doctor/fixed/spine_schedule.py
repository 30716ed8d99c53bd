import json

import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

CONTEXT = json.loads("""{
  "training": {"epochs": 5, "batch": 10, "lr": 0.005, "decay_every": 2, "decay": 0.5},
  "model": {"width": 12}
}""")


def spine(n, seed):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(28.0)
    bend = 3 * torch.randn(n, 1, 1, generator=g)
    middle = 14 + bend * torch.sin(axis[:, None] / 6)
    mask = ((axis - middle).abs() < 3).float().unsqueeze(1)
    return TensorDataset(0.8 * mask - 0.2 + 0.6 * torch.randn(n, 1, 28, 28, generator=g), mask)


def build(width):
    def cbr(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.LeakyReLU(0.1)]
    return nn.Sequential(*cbr(1, width), *cbr(width, width), *cbr(width, width), nn.Conv2d(width, 1, 1))


def soft_dice(logits, mask):
    p = logits.sigmoid()
    return 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)


def cmd_train(context):
    setting = context["training"]
    torch.manual_seed(0)
    model = build(context["model"]["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=setting["lr"])
    scheduler = StepLR(optimizer, step_size=setting["decay_every"], gamma=setting["decay"])
    train = DataLoader(spine(200, 0), setting["batch"], shuffle=True)
    val = DataLoader(spine(50, 1), 50)
    for epoch in range(setting["epochs"]):
        model.train()
        total = 0.0
        for image, mask in train:
            loss = soft_dice(model(image), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            held = sum(soft_dice(model(image), mask).item() for image, mask in val) / len(val)
        print(f"epoch {epoch} train {total / len(train):.4f} val {held:.4f}")


if __name__ == "__main__":
    cmd_train(CONTEXT)

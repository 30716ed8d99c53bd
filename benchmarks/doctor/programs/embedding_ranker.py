"""Image-caption style embedding: match noisy views of the same prototype."""
import torch
from torch import nn
from torch.nn import functional as F

opt = {"dim": 32, "batch": 32, "epochs": 2, "per_epoch": 90, "val_step": 15, "margin": 0.2, "lr": 2e-3}


class Tower(nn.Module):
    def __init__(self, n_in, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


class VSE(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.image, self.text = Tower(48, dim), Tower(20, dim)

    def forward(self, images, texts):
        return self.image(images), self.text(texts)


class World:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)
        self.to_image = torch.randn(12, 48, generator=self.g) / 3
        self.to_text = torch.randn(12, 20, generator=self.g) / 3

    def sample(self, n):
        z = torch.randn(n, 12, generator=self.g)
        images = torch.tanh(z @ self.to_image) + 0.2 * torch.randn(n, 48, generator=self.g)
        return images, torch.tanh(z @ self.to_text) + 0.2 * torch.randn(n, 20, generator=self.g)


def contrastive(a, b, margin):
    scores = a @ b.t()
    diagonal = scores.diag()
    off = 1 - torch.eye(len(a))
    cost = (margin + scores - diagonal[:, None]).clamp(min=0) + (margin + scores - diagonal[None]).clamp(min=0)
    return (cost * off).sum() / len(a)


def validate(model, held_out):
    model.eval()
    images, texts = held_out
    with torch.no_grad():
        a, b = model(images, texts)
    hits = ((a @ b.t()).argmax(1) == torch.arange(len(a))).sum().item()
    recall = hits / len(images)
    return recall


def main():
    torch.manual_seed(0)
    world = World(0)
    held_out = world.sample(100)
    model = VSE(opt["dim"])
    optimizer = torch.optim.Adam(model.parameters(), lr=opt["lr"])
    for epoch in range(opt["epochs"]):
        model.train()
        for i in range(opt["per_epoch"]):
            loss = contrastive(*model(*world.sample(opt["batch"])), opt["margin"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (i + 1) % opt["val_step"] == 0:
                print(f"{epoch}.{i + 1} loss {loss.item():.3f} recall@1 {validate(model, held_out):.3f}")


main()

import random

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.utils.data import DataLoader, Dataset

IDS = {"organ": 1, "lesion": 2}


def make_records(n, seed):
    """Every organ holds a lesion; annotators saved the shapes in any order."""
    rng = random.Random(seed)
    records = []
    for _ in range(n):
        x, y, r = rng.uniform(12, 24), rng.uniform(12, 24), rng.uniform(8, 11)
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1)
        shapes = [{"label": "organ", "points": ring * r + [x, y], "area": 3.14 * r * r},
                  {"label": "lesion", "points": ring * r * 0.5 + [x + 2, y + 1], "area": 0.8 * r * r}]
        rng.shuffle(shapes)
        records.append({"shapes": shapes, "noise": rng.randrange(1 << 30)})
    return records


def rasterise(record, side=36):
    canvas = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(canvas)
    for shape in sorted(record["shapes"], key=lambda s: -s["area"]):
        draw.polygon([tuple(p) for p in shape["points"].tolist()], fill=IDS[shape["label"]])
    return np.array(canvas)


def scan(record, side=36):
    tissue = np.random.default_rng(record["noise"]).normal(0, 0.4, (side, side))
    for label, gain in (("organ", 0.7), ("lesion", 0.9)):
        only = {"shapes": [s for s in record["shapes"] if s["label"] == label]}
        tissue += gain * (rasterise(only, side) > 0)
    return (tissue - 0.3).astype(np.float32)


class Scans(Dataset):
    def __init__(self, records):
        self.samples = [(torch.from_numpy(scan(r))[None], torch.from_numpy(rasterise(r)).long()) for r in records]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


if __name__ == "__main__":
    torch.manual_seed(0)
    train, val = DataLoader(Scans(make_records(200, 0)), 10, shuffle=True), DataLoader(Scans(make_records(40, 1)), 40)
    net = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
                        nn.Conv2d(16, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    weight = torch.tensor([0.5, 1.0, 2.0])
    for epoch in range(3):
        net.train()
        for image, label in train:
            loss = nn.functional.cross_entropy(net(image), label, weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            image, label = next(iter(val))
            guess = net(image).argmax(1)
        found = (guess == 2)[label == 2].float().mean().item()
        print(f"epoch {epoch} loss {loss.item():.3f} lesion recall {found:.3f}")

import json
import random

import torch
from torch import nn
from torchvision.ops import box_iou, generalized_box_iou_loss

SIDE = 40


def annotate(n, seed):
    rng = random.Random(seed)
    records = []
    for i in range(n):
        w, h = rng.randint(8, 16), rng.randint(8, 16)
        records.append({"id": i, "boxes": [rng.randint(0, SIDE - w), rng.randint(0, SIDE - h), w, h]})
    return json.dumps(records)


def load(record):
    x, y, w, h = record["boxes"]
    image = 0.3 * torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(record["id"]))
    image[0, y:y + h, x:x + w] += 1.0
    x, y, w, h = record["boxes"]
    boxes = torch.tensor([x, y, x + w, y + h], dtype=torch.float32)
    return image, boxes


class Locator(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(2400, 64), nn.ReLU())
        self.centre, self.extent = nn.Linear(64, 2), nn.Linear(64, 2)

    def forward(self, x):
        x = self.features(x)
        middle, half = self.centre(x).sigmoid() * SIDE, self.extent(x).sigmoid() * SIDE / 2
        return torch.cat([middle - half, middle + half], 1)


def giou_loss(predicted, boxes):
    return generalized_box_iou_loss(predicted, boxes, reduction="mean")


def main():
    torch.manual_seed(0)
    samples = [load(record) for record in json.loads(annotate(400, 0))]
    images, targets = (torch.stack(part) for part in zip(*samples))
    model = Locator()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(5):
        model.train()
        for rows in torch.randperm(360).split(24):
            predicted, boxes = model(images[rows]), targets[rows]
            loss = giou_loss(predicted, boxes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            overlap = box_iou(model(images[360:]), targets[360:]).diag().mean()
        print(f"epoch {epoch} loss {loss.item():.3f} mean IoU {overlap.item():.3f}")


if __name__ == "__main__":
    main()

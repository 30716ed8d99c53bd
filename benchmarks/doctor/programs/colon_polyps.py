import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def to_float(image):
    image = image.astype(np.float32) / 255.0
    return (image - 0.45) / 0.25


class Polyps(Dataset):
    def __init__(self, n, seed, transform):
        rng = np.random.default_rng(seed)
        self.transform = transform
        yy, xx = np.mgrid[:28, :28]
        self.images, self.masks = [], []
        for _ in range(n):
            y, x = rng.uniform(8, 20, 2)
            a, b = rng.uniform(4, 8, 2)
            mask = ((yy - y) / a) ** 2 + ((xx - x) / b) ** 2 < 1
            shade = rng.uniform(60, 120, 3)[:, None, None] + 60 * mask + rng.normal(0, 20, (3, 28, 28))
            self.images.append(shade.clip(0, 255).astype(np.uint8))
            self.masks.append(mask[None].astype(np.float32))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx]
        image = self.transform(image) / 255.0
        return torch.from_numpy(image), torch.from_numpy(self.masks[idx])


def unit(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class NestedUNet(nn.Module):
    def __init__(self, w=12):
        super().__init__()
        self.x00, self.x10 = unit(3, w), unit(w, 2 * w)
        self.x01 = unit(3 * w, w)
        self.final = nn.Conv2d(w, 1, 1)

    def forward(self, x):
        a = self.x00(x)
        b = self.x10(nn.functional.max_pool2d(a, 2))
        return self.final(self.x01(torch.cat([a, nn.functional.interpolate(b, scale_factor=2)], 1)))


def iou(net, loader):
    net.eval()
    inter = union = 0
    with torch.no_grad():
        for image, mask in loader:
            guess = net(image) > 0
            inter += (guess & (mask > 0)).sum().item()
            union += (guess | (mask > 0)).sum().item()
    return inter / union


torch.manual_seed(0)
train = DataLoader(Polyps(240, 0, to_float), batch_size=12, shuffle=True)
val = DataLoader(Polyps(48, 1, to_float), batch_size=24)
net = NestedUNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
for epoch in range(3):
    net.train()
    for image, mask in train:
        loss = nn.functional.binary_cross_entropy_with_logits(net(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.4f} iou {iou(net, val):.3f}")

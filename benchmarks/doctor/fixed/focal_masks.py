import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class Rings(Dataset):
    """Bright rings; the hole is background."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        axis = torch.arange(28.0)
        centre = 9 + 10 * torch.rand(n, 2, 1, 1, generator=g)
        radius = ((axis[:, None] - centre[:, 0]) ** 2 + (axis - centre[:, 1]) ** 2).sqrt()
        self.mask = ((radius > 4) & (radius < 8)).float()
        self.image = self.mask * 2 - 0.6 + 0.3 * torch.randn(n, 28, 28, generator=g)

    def __len__(self):
        return len(self.mask)

    def __getitem__(self, i):
        return self.image[i][None], self.mask[i][None]


def focal_loss(logits, y, alpha=0.5, gamma=2.0):
    p = torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6)
    loss = -(alpha * y * (1 - p) ** gamma * p.log() + (1 - alpha) * (1 - y) * p ** gamma * (1 - p).log())
    return loss.mean()


class Seg(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(16, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU())
        self.c = nn.Conv2d(16, 1, 1)
        self.temperature = 20.0

    def forward(self, x):
        return self.c(self.b(self.a(x))) * self.temperature


torch.manual_seed(0)
model = Seg()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
loader = DataLoader(Rings(240, 0), batch_size=12, shuffle=True)
valid = DataLoader(Rings(60, 1), batch_size=60)
for epoch in range(3):
    model.train()
    for image, mask in loader:
        loss = focal_loss(model(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        image, mask = next(iter(valid))
        iou = ((model(image) > 0) & (mask > 0)).sum() / ((model(image) > 0) | (mask > 0)).sum().clamp(min=1)
    print(f"epoch {epoch} loss {loss.item():.5f} iou {iou.item():.3f}")

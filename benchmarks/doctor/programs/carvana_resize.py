import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Vehicles(Dataset):
    """0 ground, 1 window, 2 wheel, 3 body; pictures are resized to one size."""

    def __init__(self, n, seed, size=(24, 24)):
        self.n, self.seed, self.size = n, seed, size

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(self.seed * 1000 + i)
        mask = torch.zeros(40, 40, dtype=torch.long)
        r, c = torch.randint(6, 14, (2,), generator=g).tolist()
        mask[r:r + 18, c:c + 22] = 3
        mask[r + 3:r + 8, c + 4:c + 14] = 1
        mask[r + 14:r + 22, c + 3:c + 9] = 2
        mask[r + 14:r + 22, c + 14:c + 20] = 2
        colour = torch.tensor([[-0.6, -0.6], [0.9, 0.1], [-0.2, 1.0], [0.6, 0.6]])
        image = colour[mask].permute(2, 0, 1) + 0.3 * torch.randn(2, 40, 40, generator=g)
        return self.resize(image, mask)

    def resize(self, image, mask):
        image = F.interpolate(image[None], size=self.size, mode="bilinear", align_corners=False)[0]
        mask = F.interpolate(mask[None, None].float(), size=self.size, mode="bilinear", align_corners=False)[0, 0]
        return image, mask.long()


class UNet(nn.Module):
    def __init__(self, classes, w=16):
        super().__init__()
        def two(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
        self.inc, self.down, self.up = two(2, w), two(w, 2 * w), two(3 * w, w)
        self.outc = nn.Conv2d(w, classes, 1)

    def forward(self, x):
        a = self.inc(x)
        b = F.interpolate(self.down(F.max_pool2d(a, 2)), scale_factor=2)
        return self.outc(self.up(torch.cat([a, b], 1)))


def main():
    torch.manual_seed(0)
    train, val = DataLoader(Vehicles(200, 0), 10, shuffle=True), DataLoader(Vehicles(40, 1), 20)
    net = UNet(4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for epoch in range(3):
        net.train()
        for image, mask in train:
            loss = F.cross_entropy(net(image), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            acc = sum((net(image).argmax(1) == mask).float().mean().item() for image, mask in val) / len(val)
        print(f"epoch {epoch} loss {loss.item():.3f} pixel accuracy {acc:.3f}")


if __name__ == "__main__":
    main()

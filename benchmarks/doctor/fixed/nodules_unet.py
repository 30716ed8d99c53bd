"""Segment round nodules in noisy slices with a small U-Net."""
import torch
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset


class Slices(Dataset):
    def __init__(self, n, seed, size=32):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        centre = torch.randint(8, size - 8, (n, 2), generator=g)
        radius = torch.randint(4, 9, (n, 1, 1), generator=g)
        dist = ((yy - centre[:, 0, None, None]) ** 2 + (xx - centre[:, 1, None, None]) ** 2).float().sqrt()
        self.masks = (dist < radius).float().unsqueeze(1)
        self.images = self.masks * 1.0 + torch.randn(n, 1, size, size, generator=g) * 0.7 - 0.2

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.masks[i]


def block(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([block(1, 12), block(12, 24), block(24, 48)])

    def forward(self, x):
        features = []
        for i, stage in enumerate(self.stages):
            x = stage(x if i == 0 else nn.functional.max_pool2d(x, 2))
            features.append(x)
        return features


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ModuleList([block(48 + 24, 24), block(24 + 12, 12)])
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, features):
        x = features[-1]
        for stage, skip in zip(self.up, reversed(features[:-1])):
            x = nn.functional.interpolate(x, scale_factor=2)
            x = stage(torch.cat([x, skip], 1))
        return self.out(x)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Experiment:
    def __init__(self, epochs=3):
        self.epochs = epochs
        self.model = UNet()
        self.optimizer = Adam(self.model.parameters(), lr=2e-3)
        self.loss = nn.BCEWithLogitsLoss()
        self.train_loader = DataLoader(Slices(256, 0), 16, shuffle=True)
        self.val_loader = DataLoader(Slices(64, 1), 32)

    def fit(self):
        for epoch in range(self.epochs):
            self.model.train()
            for image, mask in self.train_loader:
                self.optimizer.zero_grad(set_to_none=True)
                loss = self.loss(self.model(image), mask)
                loss.backward()
                self.optimizer.step()
            print(f"epoch {epoch}: loss {loss.item():.4f} dice {self.dice():.4f}")

    @torch.no_grad()
    def dice(self):
        self.model.eval()
        inter = total = 0.0
        for image, mask in self.val_loader:
            guess = (self.model(image) > 0).float()
            inter += (guess * mask).sum().item()
            total += (guess.sum() + mask.sum()).item()
        return 2 * inter / total


if __name__ == "__main__":
    torch.manual_seed(0)
    Experiment().fit()

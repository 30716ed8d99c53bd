import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class DoubleConv(nn.Sequential):
    def __init__(self, a, b):
        super().__init__(nn.Conv3d(a, b, 3, padding=1, bias=False), nn.BatchNorm3d(b), nn.ReLU(inplace=True),
                         nn.Conv3d(b, b, 3, padding=1, bias=False), nn.BatchNorm3d(b), nn.ReLU(inplace=True))


class UNet3D(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.enc1, self.enc2 = DoubleConv(1, width), DoubleConv(width, 2 * width)
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.dec = DoubleConv(2 * width, width)
        self.final = nn.Conv3d(width, 1, 1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(self.pool(a))
        return self.final(self.dec(torch.cat([a, self.up(b)], 1)))


def spheres(n, seed, size=14):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(float(size))
    centre = 4 + 6 * torch.rand(n, 3, 1, 1, 1, generator=g)
    distance = ((axis[:, None, None] - centre[:, 0]) ** 2 + (axis[:, None] - centre[:, 1]) ** 2
                + (axis - centre[:, 2]) ** 2)
    labels = (distance < 9 + 9 * torch.rand(n, 1, 1, 1, generator=g)).float().unsqueeze(1)
    return TensorDataset(labels - 0.2 + 0.5 * torch.randn(labels.shape, generator=g), labels)


def main(max_epochs=3):
    torch.manual_seed(0)
    loaders = {"train": DataLoader(spheres(96, 0), batch_size=8, shuffle=True),
               "val": DataLoader(spheres(24, 1), batch_size=4)}
    model = UNet3D()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loss_criterion = nn.BCEWithLogitsLoss()
    for epoch in range(max_epochs):
        model.train()
        for volume, labels in loaders["train"]:
            loss = loss_criterion(model(volume), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses, overlap = [], []
        for volume, labels in loaders["val"]:
            model.eval()
            with torch.no_grad():
                output = model(volume)
                losses.append(loss_criterion(output, labels).item())
                guess = (output > 0).float()
                overlap.append((2 * (guess * labels).sum() / (guess + labels).sum()).item())
        print(f"epoch {epoch} train {loss.item():.3f} val {sum(losses) / len(losses):.3f} dice {sum(overlap) / len(overlap):.3f}")


if __name__ == "__main__":
    main()

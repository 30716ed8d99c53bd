import torch
from torch import nn

GRID, STRIDE = 8, 4


def annotations(n, gen):
    """Two clicked corners a picture."""
    clicks = torch.randint(0, GRID * STRIDE, (n, 2, 2), generator=gen).float()
    a, b = clicks[:, 0], clicks[:, 1]
    box = torch.stack([a.minimum(b), a.maximum(b)], 1).flatten(1)
    axis = torch.arange(float(GRID * STRIDE))
    rows = (axis >= box[:, 0:1]) & (axis <= box[:, 2:3])
    cols = (axis >= box[:, 1:2]) & (axis <= box[:, 3:4])
    image = (rows[:, :, None] & cols[:, None]).float() + 0.2 * torch.randn(n, 32, 32, generator=gen)
    return image.unsqueeze(1), box


def encode(box, reference=16.0):
    centre = (box[:, :2] + box[:, 2:]) / 2
    extent = box[:, 2:] - box[:, :2]
    return torch.cat([centre / reference - 1, torch.log(extent / reference)], 1)


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU(),
                                 nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
                                 nn.Flatten(), nn.Linear(24 * 64, 4))

    def forward(self, x):
        return self.net(x)


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    model = Regressor()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(120):
        image, box = annotations(24, gen)
        target = encode(box)
        loss = nn.functional.smooth_l1_loss(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 29:
            print(step + 1, loss.item())


if __name__ == "__main__":
    main()

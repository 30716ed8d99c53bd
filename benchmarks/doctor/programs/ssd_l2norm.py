import torch
import torch.nn as nn
import torch.nn.functional as F


class L2Norm(nn.Module):
    def __init__(self, channels, scale=10.0):
        super().__init__()
        self.eps = 1e-10
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x):
        norm = x.pow(2).sum(dim=1, keepdim=True).sqrt() + self.eps
        x /= norm
        return self.weight[None, :, None, None] * x


class MiniSSD(nn.Module):
    """One level, one anchor a cell: objectness and four offsets."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1))
        self.norm = L2Norm(32)
        self.conf = nn.Conv2d(32, 1, 3, padding=1)
        self.loc = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, x):
        x = self.norm(self.features(x))
        return self.conf(x).flatten(1), self.loc(x).flatten(2).transpose(1, 2)


def squares(n, gen):
    image = torch.randn(n, 3, 48, 48, generator=gen) * 0.3
    corner = torch.randint(0, 32, (n, 2), generator=gen)
    side = torch.randint(8, 16, (n, 2), generator=gen)
    centre = corner + side / 2
    cell = (centre // 8).long()
    index = cell[:, 0] * 6 + cell[:, 1]
    for i in range(n):
        (r, c), (h, w) = corner[i].tolist(), side[i].tolist()
        image[i, :, r:r + h, c:c + w] += 1
    offset = torch.cat([(centre - cell * 8 - 4) / 8, (side / 12.0).log()], 1)
    return image, index, offset


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    model = MiniSSD()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(80):
        image, index, offset = squares(16, gen)
        conf, loc = model(image)
        target = F.one_hot(index, 36).float()
        loss_conf = F.binary_cross_entropy_with_logits(conf, target, reduction="sum") / len(image)
        loss_loc = F.smooth_l1_loss(loc[torch.arange(len(image)), index], offset)
        optimizer.zero_grad()
        (loss_conf + loss_loc).backward()
        optimizer.step()
        if step % 20 == 19:
            print(f"{step + 1} conf {loss_conf.item():.3f} loc {loss_loc.item():.3f}")


main()

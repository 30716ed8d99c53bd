"""Refine a coarse depth map. The coarse network comes from the first phase and is kept as it is."""
import torch
import torch.nn as nn
import torch.nn.functional as F

cfg = dict(size=24, width=12, phase1=60, phase2=60, batch=16, lr=3e-3)


def conv(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1), nn.GroupNorm(2, cout), nn.SiLU())


class Coarse(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(conv(3, width, 2), conv(width, width, 2), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, image):
        return F.interpolate(self.net(image), scale_factor=4, mode="bilinear", align_corners=False)


class Refine(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(conv(4, width), conv(width, width), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, image, depth):
        return depth + self.net(torch.cat([image, depth], 1))


def planes(n, gen):
    s = cfg["size"]
    ramp = torch.linspace(-1, 1, s)
    slope = torch.randn(n, 2, 1, 1, generator=gen)
    depth = slope[:, :1] * ramp[:, None] + slope[:, 1:] * ramp
    box = (ramp.abs()[:, None] < 0.4) & (ramp.abs() < 0.4)
    depth = depth + box * torch.randn(n, 1, 1, 1, generator=gen)
    shade = torch.cat([depth, -depth, depth.abs() - 0.5], 1)
    return shade + 0.2 * torch.randn(shade.shape, generator=gen), depth


def run(params, forward, steps, gen, name):
    optimizer = torch.optim.Adam(params, lr=cfg["lr"])
    for step in range(steps):
        image, depth = planes(cfg["batch"], gen)
        loss = F.l1_loss(forward(image), depth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(name, f"{loss.item():.4f}")


torch.manual_seed(0)
gen = torch.Generator().manual_seed(0)
coarse, refine = Coarse(cfg["width"]), Refine(cfg["width"])
run(coarse.parameters(), coarse, cfg["phase1"], gen, "coarse")
for param in coarse.parameters():
    param.require_grad = False
both = nn.ModuleDict({"coarse": coarse, "refine": refine})
run(both.parameters(), lambda image: refine(image, coarse(image)), cfg["phase2"], gen, "refine")

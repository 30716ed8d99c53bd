"""Point clouds to one box centre, first the point encoder with the head, then the head alone."""
import torch
from torch import nn


class PointEncoder(nn.Module):
    def __init__(self, out=32):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, out), nn.ReLU())

    def forward(self, points):
        return self.mlp(points).amax(1)


class BoxHead(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.hidden = nn.Linear(dim, 32)
        self.box = nn.Linear(32, 4)

    def forward(self, x):
        return self.box(torch.relu(self.hidden(x)))


def clouds(n, gen):
    centre = torch.rand(n, 1, 2, generator=gen) * 1.6 - 0.8
    size = 0.2 + 0.4 * torch.rand(n, 1, 2, generator=gen)
    points = centre + size * (torch.rand(n, 40, 2, generator=gen) - 0.5)
    return points, torch.cat([centre, size], -1).squeeze(1)


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    encoder, head = PointEncoder(), BoxHead()
    opt = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.05, momentum=0.9, weight_decay=1e-3)
    for step in range(400):
        if step == 250:
            encoder.requires_grad_(False)
        points, box = clouds(32, gen)
        loss = nn.functional.smooth_l1_loss(head(encoder(points)), box)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        if step % 100 == 99:
            print(step + 1, f"{loss.item():.5f}")
    with torch.no_grad():
        points, box = clouds(500, gen)
        print("mean error", (head(encoder(points)) - box).abs().mean().item())


if __name__ == "__main__":
    main()

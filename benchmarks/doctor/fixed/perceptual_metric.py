"""Learn a distance between patches that agrees with a (synthetic) human judgement."""
import torch
from torch import nn


class Distance(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2),
                                      nn.Conv2d(channels, channels, 3, padding=1), nn.Tanh())
        self.mix = nn.Linear(25, 1)

    def forward(self, a, b):
        diff = self.features(a) - self.features(b)
        return self.mix(self.pixel_distance(diff).flatten(1)).squeeze(1)

    def pixel_distance(self, diff):
        return (diff.pow(2).sum(1) + 1e-8).sqrt()


def judgements(n, gen):
    a = torch.randn(n, 1, 10, 10, generator=gen)
    strength = torch.rand(n, generator=gen).mul(4).floor().div(4)
    b = a + strength[:, None, None, None] * torch.randn(a.shape, generator=gen)
    return a, b, strength


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    model = Distance()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(150):
        a, b, target = judgements(32, gen)
        loss = (model(a, b) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(step + 1, loss.item())


if __name__ == "__main__":
    main()

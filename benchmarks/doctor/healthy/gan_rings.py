import torch
from torch import nn
from torch.nn import functional as F


def ring(n, generator):
    angle = 6.2832 * torch.rand(n, generator=generator)
    radius = 1 + 0.05 * torch.randn(n, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def mlp(a, b):
    return nn.Sequential(nn.Linear(a, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, b))


def main():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    G, D = mlp(8, 2), mlp(2, 1)
    opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for step in range(200):
        real, noise = ring(64, generator), torch.randn(64, 8, generator=generator)
        fake = G(noise)
        opt_d.zero_grad()
        d_loss = F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean()
        d_loss.backward()
        opt_d.step()
        opt_g.zero_grad()
        g_loss = F.softplus(-D(fake)).mean()
        g_loss.backward()
        opt_g.step()
        if step % 50 == 49:
            print(step + 1, f"D {d_loss.item():.3f} G {g_loss.item():.3f}")


main()

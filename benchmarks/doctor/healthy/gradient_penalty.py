import torch
from torch import autograd, nn


def critic_net():
    return nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1))


def penalty(critic, real, fake):
    mix = torch.rand(len(real), 1)
    point = (mix * real + (1 - mix) * fake).requires_grad_(True)
    slope, = autograd.grad(critic(point).sum(), point, create_graph=True)
    return (slope.norm(2, dim=1) - 1).pow(2).mean()


torch.manual_seed(0)
critic, maker = critic_net(), nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2))
opt_c = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
opt_m = torch.optim.Adam(maker.parameters(), lr=1e-3, betas=(0.0, 0.9))
for step in range(80):
    for _ in range(3):
        real = torch.randn(64, 2) * 0.4 + torch.tensor([1.0, 0.0])
        fake = maker(torch.randn(64, 3)).detach()
        cost = critic(fake).mean() - critic(real).mean() + 10 * penalty(critic, real, fake)
        opt_c.zero_grad()
        cost.backward()
        opt_c.step()
    opt_m.zero_grad()
    (-critic(maker(torch.randn(64, 3))).mean()).backward()
    opt_m.step()
    if step % 20 == 19:
        print(step + 1, cost.item())

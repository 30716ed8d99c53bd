import math

import torch
from torch import nn


class Damped(nn.Module):
    """Euler steps of a learned field with a learned friction term."""

    def __init__(self, width=32, dt=0.05):
        super().__init__()
        self.dt = dt
        self.field = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))
        self.friction = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    def step(self, state):
        drift = self.field(state)
        brake = self.friction(state)
        return state + self.dt * (drift + brake)

    def forward(self, state, steps):
        path = [state]
        for _ in range(steps):
            path.append(self.step(path[-1]))
        return torch.stack(path, 1)


def simulate(start, steps, dt=0.05):
    path = [start]
    for _ in range(steps):
        angle, speed = path[-1].unbind(1)
        path.append(torch.stack([angle + dt * speed, speed + dt * (-9.8 * angle.sin() - 0.2 * speed)], 1))
    return torch.stack(path, 1)


def sample(n, generator):
    return (torch.rand(n, 2, generator=generator) - 0.5) * torch.tensor([math.pi / 2, 1.0])


def main():
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(5)
    model = Damped()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for it in range(150):
        start = sample(64, generator)
        truth = simulate(start, 10)
        loss = (model(start, 10) - truth).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if it % 50 == 0:
            print(it, loss.item())
    with torch.no_grad():
        start = sample(256, generator)
        print("test", (model(start, 20) - simulate(start, 20)).pow(2).mean().item())


main()

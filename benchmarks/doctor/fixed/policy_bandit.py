"""REINFORCE on a contextual bandit: choose the arm that the context points to."""
import argparse

import torch
from torch import nn
from torch.distributions import Categorical


class Policy(nn.Module):
    def __init__(self, context, arms):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(context, 32), nn.Tanh(), nn.Linear(32, arms))

    def forward(self, x):
        return Categorical(logits=self.net(x))


class Bandit:
    def __init__(self, context, arms, seed):
        self.g = torch.Generator().manual_seed(seed)
        self.map = torch.randn(context, arms, generator=self.g)

    def contexts(self, n):
        return torch.randn(n, self.map.shape[0], generator=self.g)

    def reward(self, context, arm):
        best = (context @ self.map).argmax(-1)
        return (arm == best).float() + 0.1 * torch.randn(arm.shape, generator=self.g)


def run(args):
    bandit = Bandit(6, args.arms, seed=0)
    policy = Policy(6, args.arms)
    optimizer = torch.optim.Adam(policy.parameters(), lr=args.lr)
    baseline = 1 / args.arms
    for episode in range(args.episodes):
        context = bandit.contexts(args.batch)
        choice = policy(context)
        arm = choice.sample()
        reward = bandit.reward(context, arm)
        losses = []
        for logp, r in zip(choice.log_prob(arm), reward.tolist()):
            advantage = r - baseline
            losses.append(-logp * advantage)
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        baseline = 0.95 * baseline + 0.05 * reward.mean().item()
        if episode % 50 == 49:
            print(f"episode {episode + 1} mean reward {baseline:.3f}")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--arms", type=int, default=4)
    p.add_argument("--episodes", type=int, default=200)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1e-2)
    torch.manual_seed(0)
    run(p.parse_args())

import torch
from torch import nn
from torch.distributions import Categorical


class ActorCritic(nn.Module):
    def __init__(self, n=7):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n, 32), nn.Tanh())
        self.actor, self.critic = nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x):
        x = self.body(x)
        return Categorical(logits=self.actor(x)), self.critic(x).squeeze(-1)


def corridor(model, n=7, limit=15):
    """Walk right to the end of a corridor; each step costs."""
    place, log_probs, values, rewards = 0, [], [], []
    for _ in range(limit):
        policy, value = model(torch.eye(n)[place])
        move = policy.sample()
        place = max(0, place + (1 if move.item() else -1))
        done = place == n - 1
        log_probs.append(policy.log_prob(move))
        values.append(value)
        rewards.append(1.0 if done else -0.05)
        if done:
            break
    return torch.stack(log_probs), torch.stack(values), rewards


torch.manual_seed(0)
model = ActorCritic()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
length = 15.0
for episode in range(150):
    log_probs, values, rewards = corridor(model)
    returns, total = [], 0.0
    for r in reversed(rewards):
        total = r + 0.97 * total
        returns.insert(0, total)
    returns = torch.tensor(returns)
    advantage = returns - values.detach()
    loss = -(log_probs * advantage).sum() + nn.functional.smooth_l1_loss(values, returns, reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    length = 0.95 * length + 0.05 * len(rewards)
print("mean length", length)

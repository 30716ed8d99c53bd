import torch
from torch import nn


class GatedUnit(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.value = nn.Linear(inputs + hidden, hidden)
        self.gate = nn.Linear(inputs + hidden, hidden)

    def forward(self, x, h, mask):
        both = torch.cat([x, h], -1)
        gate = torch.sigmoid(self.gate(both))
        gate = gate * mask.unsqueeze(-1)
        return (1 - gate) * h + gate * torch.tanh(self.value(both))


class Regressor(nn.Module):
    def __init__(self, inputs=2, hidden=24):
        super().__init__()
        self.unit = GatedUnit(inputs, hidden)
        self.out = nn.Linear(hidden, 1)
        self.hidden = hidden

    def forward(self, x, lengths):
        h = x.new_zeros(len(x), self.hidden)
        steps = torch.arange(x.shape[1])
        for t in steps:
            h = self.unit(x[:, t], h, (t < lengths).float())
        return self.out(h).squeeze(-1)


def sequences(n, gen, longest=10):
    lengths = torch.randint(4, longest + 1, (n,), generator=gen)
    x = torch.randn(n, longest, 2, generator=gen)
    valid = torch.arange(longest) < lengths[:, None]
    return x, lengths, (x[..., 0] * torch.sigmoid(3 * x[..., 1]) * valid).sum(1) / 3


torch.manual_seed(0)
gen = torch.Generator().manual_seed(3)
model = Regressor()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for it in range(200):
    x, lengths, y = sequences(64, gen)
    loss = nn.functional.mse_loss(model(x, lengths), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if it % 50 == 49:
        print(it + 1, loss.item())

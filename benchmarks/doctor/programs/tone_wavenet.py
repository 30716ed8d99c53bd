import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def tones(n, seed):
    """Sums of two sines; the class says whether they form a fifth, a third or an octave."""
    gen = torch.Generator().manual_seed(seed)
    ratio = torch.tensor([1.5, 1.25, 2.0])
    label = torch.randint(0, 3, (n,), generator=gen)
    base = 4 + 4 * torch.rand(n, 1, generator=gen)
    t = torch.linspace(0, 2 * math.pi, 128)
    shift = 6.28 * torch.rand(n, 2, generator=gen)
    wave = torch.sin(base * t + shift[:, :1]) + torch.sin(base * ratio[label][:, None] * t + shift[:, 1:])
    return TensorDataset(wave.unsqueeze(1) + 0.1 * torch.randn(n, 1, 128, generator=gen), label)


class Listener(nn.Module):
    def __init__(self, width=24, depth=4):
        super().__init__()
        self.inlet = nn.Conv1d(1, width, 7, stride=2, padding=3)
        layer = nn.Conv1d(width, width, 3, padding=1)
        norm = nn.BatchNorm1d(width)
        self.convs = nn.ModuleList([layer for _ in range(depth)])
        self.norms = nn.ModuleList([norm for _ in range(depth)])
        self.outlet = nn.Linear(width, 3)

    def forward(self, x):
        x = self.inlet(x)
        for conv, norm in zip(self.convs, self.norms):
            x = nn.functional.max_pool1d(torch.relu(norm(conv(x))), 2)
        return self.outlet(x.mean(2))


def evaluate(model, loader):
    model.eval()
    hits = 0
    with torch.no_grad():
        for x, y in loader:
            hits += (model(x).argmax(1) == y).sum().item()
    model.train()
    return hits / len(loader.dataset)


torch.manual_seed(0)
train_loader = DataLoader(tones(1200, 0), batch_size=40, shuffle=True)
test_loader = DataLoader(tones(300, 1), batch_size=100)
model = Listener()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
lossf = nn.CrossEntropyLoss()
for epoch in range(5):
    for x, y in train_loader:
        opt.zero_grad()
        loss = lossf(model(x), y)
        loss.backward()
        opt.step()
    print(epoch, round(loss.item(), 3), evaluate(model, test_loader))

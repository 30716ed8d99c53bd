import torch
from torch import nn, optim


def sequences(n, g, length=10, vocab=8):
    """Is the first symbol seen again?"""
    x = torch.randint(1, vocab, (n, length), generator=g)
    y = torch.randint(0, 2, (n,), generator=g)
    first = x[:, :1]
    x[:, 1:] = torch.where(x[:, 1:] == first, x[:, 1:] % (vocab - 1) + 1, x[:, 1:])
    place = torch.randint(1, length, (n,), generator=g)
    rows = torch.arange(n)
    x[rows, place] = torch.where(y == 1, x[:, 0], x[rows, place])
    return x, y


class Model(nn.Module):
    def __init__(self, vocab=8, length=10, dim=32):
        super().__init__()
        self.token, self.place = nn.Embedding(vocab, dim), nn.Parameter(0.02 * torch.randn(length, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(dim, 2)

    def forward(self, x):
        return self.out(self.encoder(self.token(x) + self.place)[:, 0])


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
model = Model()
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
warm = optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-4, total_iters=60)
decay = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=240)
schedule = optim.lr_scheduler.SequentialLR(optimizer, [warm, decay], milestones=[60])
for step in range(300):
    x, y = sequences(64, g)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 75 == 74:
        print(step + 1, loss.item())

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ConvLSTMCell(nn.Module):
    def __init__(self, cin, hidden):
        super().__init__()
        self.gates = nn.Conv2d(cin + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x, state):
        h, c = state
        i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class NextFrame(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.hidden = hidden
        self.cell = ConvLSTMCell(1, hidden)
        self.out = nn.Conv2d(hidden, 1, 1)

    def forward(self, frames):
        b, t, _, h, w = frames.shape
        state = (frames.new_zeros(b, self.hidden, h, w),) * 2
        for k in range(t):
            state = self.cell(frames[:, k], state)
        return self.out(state[0])


def drifting_dots(n, seed, size=16, length=5):
    g = torch.Generator().manual_seed(seed)
    start = 4 + 8 * torch.rand(n, 2, generator=g)
    speed = 2 * torch.rand(n, 2, generator=g) - 1
    where = start[:, None] + torch.arange(length)[None, :, None] * speed[:, None]
    axis = torch.arange(float(size))
    gap = (axis[:, None] - where[..., 0, None, None]) ** 2 + (axis - where[..., 1, None, None]) ** 2
    film = torch.exp(-gap / 3).unsqueeze(2) * 2 - 0.2
    return TensorDataset(film[:, :-1], film[:, -1])


torch.manual_seed(0)
model = NextFrame()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
loader = DataLoader(drifting_dots(320, 0), batch_size=16, shuffle=True)
val = drifting_dots(64, 1).tensors
for epoch in range(4):
    model.train()
    epoch_loss = 0
    for past, future in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(past), future)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item()
    model.eval()
    with torch.no_grad():
        held = nn.functional.mse_loss(model(val[0]), val[1])
    print(f"epoch {epoch}: {float(epoch_loss) / len(loader):.4f} {held.item():.4f}")

import numpy as np
import torch
from torch import nn

WIDTH, AHEAD = 24, 1


def signal(rng, n=1600):
    t = np.arange(n)
    walk = np.zeros(n)
    noise = rng.normal(0, 0.3, n)
    for i in range(1, n):
        walk[i] = 0.9 * walk[i - 1] + noise[i]
    return (np.sin(0.2 * t) + walk).astype(np.float32) / 1.1


class Forecaster(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.rnn = nn.GRU(1, width, batch_first=True)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        return self.out(self.rnn(x.unsqueeze(-1))[0][:, -1]).squeeze(-1)


def batches(data, size, rng):
    for rows in np.array_split(rng.permutation(len(data)), len(data) // size):
        chunk = torch.from_numpy(data[rows])
        yield chunk[:, :-AHEAD], chunk[:, -1]


def main():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    series = signal(rng, n=WIDTH * 1200)
    windows = np.lib.stride_tricks.sliding_window_view(series, WIDTH + AHEAD).copy()
    windows = windows[::WIDTH]
    order = rng.permutation(len(windows))
    cut = int(0.8 * len(windows))
    train, val = windows[order[:cut]], windows[order[cut:]]
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(5):
        model.train()
        for past, future in batches(train, 40, rng):
            loss = nn.functional.mse_loss(model(past), future)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            errors = [(model(past) - future).pow(2).mean().item() for past, future in batches(val, 160, rng)]
        print(epoch, f"train {loss.item():.4f} val {np.mean(errors):.4f}")


if __name__ == "__main__":
    main()

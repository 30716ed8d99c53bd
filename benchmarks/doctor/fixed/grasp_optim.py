import torch
from sklearn.datasets import load_diabetes
from torch import nn


class SoftSign(torch.optim.Optimizer):
    """Momentum followed by a soft sign."""

    def __init__(self, params, lr=1e-3, beta=0.9):
        super().__init__(params, dict(lr=lr, beta=beta))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(p)
                g = state["m"].mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                p.add_(g / (g.abs() + 1e-3), alpha=-group["lr"])


class TiedAutoencoder(nn.Module):
    def __init__(self, n_features, n_codes):
        super().__init__()
        self.encode = nn.Linear(n_features, n_codes)
        self.decode = nn.Linear(n_codes, n_features)
        self.target = nn.Linear(n_codes, 1)
        # start the decoder as the transpose of the encoder
        self.decode.weight = nn.Parameter(self.encode.weight.detach().clone().t())

    def forward(self, x):
        code = torch.tanh(self.encode(x))
        return self.decode(code), self.target(code).squeeze(1)


torch.manual_seed(0)
x, y = load_diabetes(return_X_y=True, scaled=True)
x = torch.tensor(x, dtype=torch.float32) * len(x) ** 0.5
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
model = TiedAutoencoder(10, 6)
optimizer = SoftSign(model.parameters(), lr=2e-3)
for epoch in range(15):
    for rows in torch.randperm(350).split(32):
        rebuilt, guess = model(x[rows])
        loss = nn.functional.mse_loss(rebuilt, x[rows]) + nn.functional.mse_loss(guess, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        with torch.no_grad():
            rebuilt, guess = model(x[350:])
            print(epoch, "rebuild", (rebuilt - x[350:]).pow(2).mean().item(), "risk", (guess - y[350:]).pow(2).mean().item())

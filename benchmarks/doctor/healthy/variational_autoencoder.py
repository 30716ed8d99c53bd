import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2 * latent))
        self.decode = nn.Sequential(nn.Linear(latent, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        mu, log_var = self.encode(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp() if self.training else mu
        return self.decode(z), mu, log_var


def elbo(out, x, mu, log_var):
    rebuild = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
    return rebuild - 0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum()


torch.manual_seed(0)
x = torch.tensor(load_digits().data, dtype=torch.float32) / 16
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(6):
    model.train()
    total = 0.0
    for batch in DataLoader(x[:1400], 50, shuffle=True):
        out, mu, log_var = model(batch)
        loss = elbo(out, batch, mu, log_var)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        print(epoch, total / 1400, elbo(model(x[1400:])[0], x[1400:], *model(x[1400:])[1:]).item() / 397)

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 60


def load(n_train):
    digits = load_digits()
    g = torch.Generator().manual_seed(3)
    order = torch.randperm(len(digits.target), generator=g)
    x = torch.tensor(digits.data, dtype=torch.float32)[order] / 8 - 1
    x = x + 0.5 * torch.randn(x.shape, generator=g)
    y = torch.tensor(digits.target)[order]
    return x[:n_train], y[:n_train], x[1400:], y[1400:]


def measure(net, x, y):
    net.eval()
    with torch.no_grad():
        logits = net(x)
        return nn.functional.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


torch.manual_seed(0)
x_train, y_train, x_val, y_val = load(80)
train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=20, shuffle=True)
net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.0)
for epoch in range(EPOCHS):
    net.train()
    for x, y in train_loader:
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if (epoch + 1) % max(1, EPOCHS // 6) == 0:
        train_loss, train_acc = measure(net, x_train, y_train)
        val_loss, val_acc = measure(net, x_val, y_val)
        print(f"epoch {epoch + 1}: train {train_loss:.3f} {train_acc:.3f}  val {val_loss:.3f} {val_acc:.3f}")

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(digits.target)
teacher = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
student = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def train(net, loss_of, epochs):
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(1400).split(50):
            loss = loss_of(net(x[rows]), rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        return loss.item(), (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item()


def distil(logits, rows, heat=3.0):
    with torch.no_grad():
        soft = F.softmax(teacher(x[rows]) / heat, 1)
    kl = F.kl_div(F.log_softmax(logits / heat, 1), soft, reduction="batchmean") * heat**2
    return 0.7 * kl + 0.3 * F.cross_entropy(logits, y[rows])


print(train(teacher, lambda logits, rows: F.cross_entropy(logits, y[rows]), 4))
print(train(student, distil, 6))

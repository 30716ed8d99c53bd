import copy

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(digits.target)
labelled, unlabelled, held_out = x[:400], x[400:1400], x[1400:]

student = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)


@torch.no_grad()
def follow(teacher, student, decay):
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.lerp_(fast, 1 - decay)


def noisy(batch):
    return batch + 0.2 * torch.randn_like(batch)


optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
for step in range(250):
    rows = torch.randint(0, 400, (32,))
    supervised = F.cross_entropy(student(noisy(labelled[rows])), y[rows])
    batch = unlabelled[torch.randint(0, 1000, (64,))]
    consistency = F.mse_loss(student(noisy(batch)).softmax(1), teacher(noisy(batch)).softmax(1))
    loss = supervised + 5.0 * consistency
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    follow(teacher, student, 0.98)
    if step % 50 == 49:
        with torch.no_grad():
            print(step + 1, loss.item(), (teacher(held_out).argmax(1) == y[1400:]).float().mean().item())

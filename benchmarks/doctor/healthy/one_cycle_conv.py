import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset


def glyphs(n, seed):
    font = (torch.randn(8, 6, 6, generator=torch.Generator().manual_seed(5)) > 0).float() * 2 - 1
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 8, (n,), generator=g)
    x = 0.7 * torch.randn(n, 1, 14, 14, generator=g)
    for i, (r, c) in enumerate(torch.randint(0, 9, (n, 2), generator=g).tolist()):
        x[i, 0, r:r + 6, c:c + 6] += font[y[i]]
    return TensorDataset(x, y)


torch.manual_seed(0)
train, val = DataLoader(glyphs(1500, 0), 50, shuffle=True), DataLoader(glyphs(300, 1), 150)
net = nn.Sequential(nn.Conv2d(1, 24, 6), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.BatchNorm2d(24),
                    nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 8))
epochs = 5
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
scheduler = OneCycleLR(optimizer, max_lr=0.1, epochs=epochs, steps_per_epoch=len(train))
for epoch in range(epochs):
    net.train()
    for x, y in train:
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    net.eval()
    with torch.no_grad():
        right = sum((net(x).argmax(1) == y).sum().item() for x, y in val)
    print(epoch, loss.item(), right / 300, scheduler.get_last_lr())

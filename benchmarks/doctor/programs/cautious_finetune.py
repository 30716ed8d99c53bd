import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SmallConv(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(32, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def fruit(n, seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 5, (n,), generator=g)
    skin = torch.tensor([[0.9, 0.1, 0.1], [0.9, 0.8, 0.1], [0.2, 0.7, 0.2], [0.9, 0.5, 0.1], [0.4, 0.1, 0.5]])
    axis = torch.arange(20.0)
    centre = 7 + 6 * torch.rand(n, 2, 1, 1, generator=g)
    disc = ((axis[:, None] - centre[:, 0]) ** 2 + (axis - centre[:, 1]) ** 2 < 30).float()[:, None]
    image = disc * skin[label][:, :, None, None] + (1 - disc) * 0.5 + 0.15 * torch.randn(n, 3, 20, 20, generator=g)
    return TensorDataset((image - 0.5) / 0.25, label)


def run_epoch(model, loader, criterion, optimizer=None):
    model.train(optimizer is not None)
    loss_sum = hits = 0.0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            logits = model(x)
            loss = criterion(logits, y)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss_sum += loss.item() * len(y)
            hits += (logits.argmax(1) == y).sum().item()
    return loss_sum / len(loader.dataset), hits / len(loader.dataset)


torch.manual_seed(0)
train_loader = DataLoader(fruit(640, 0), batch_size=32, shuffle=True)
val_loader = DataLoader(fruit(160, 1), batch_size=80)
model = SmallConv(5)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
for epoch in range(4):
    train_loss, train_acc = run_epoch(model, train_loader, criterion, optimizer)
    val_loss, val_acc = run_epoch(model, val_loader, criterion)
    print(f"{epoch}: train {train_loss:.3f}/{train_acc:.2f} val {val_loss:.3f}/{val_acc:.2f}")

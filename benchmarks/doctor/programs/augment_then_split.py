import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def enlarge(images, labels, copies=4):
    """Balance a small set by repeating images, some of them mirrored top to bottom."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(images), copies * len(images))
    flip = rng.random(len(index)) < 0.3
    more = np.where(flip[:, None, None], images[index][:, ::-1], images[index])
    return more, labels[index]


def tensors(x, y):
    return TensorDataset(torch.tensor(x.copy(), dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(y))


def get_data():
    digits = load_digits()
    images, labels = digits.images[:500], digits.target[:500]
    images, labels = enlarge(images, labels)
    x_train, x_val, y_train, y_val = train_test_split(images, labels, test_size=0.25, random_state=0)
    return tensors(x_train, y_train), tensors(x_val, y_val)


def build():
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(),
                         nn.Dropout(0.3), nn.Linear(24 * 16, 10))


if __name__ == "__main__":
    torch.manual_seed(0)
    train, val = get_data()
    train_loader, val_loader = DataLoader(train, batch_size=50, shuffle=True), DataLoader(val, batch_size=250)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(4):
        model.train()
        for x, y in train_loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in val_loader)
        print(f"epoch {epoch}: loss {loss.item():.3f} validation accuracy {right / len(val):.3f}")

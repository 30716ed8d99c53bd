import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2


class Faces(Dataset):
    """Smiles curve up, frowns curve down."""

    def __init__(self, n, seed, transform=None):
        g = torch.Generator().manual_seed(seed)
        self.transform = transform
        self.labels = torch.randint(0, 2, (n,), generator=g)
        axis = torch.arange(20.0)
        turn = (self.labels * 2 - 1)[:, None, None] * 0.12
        x, y = 8 + 4 * torch.rand(n, 2, 1, 1, generator=g).unbind(1)[0], 8 + 4 * torch.rand(n, 1, 1, generator=g)
        curve = (axis[:, None] - y + turn * (axis - x) ** 2).abs() < 1.2
        self.images = (curve * 1.6 - 0.2 + 0.3 * torch.randn(n, 20, 20, generator=g)).unsqueeze(1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.transform:
            image = self.transform(image)
        return image, self.labels[i]


def build():
    return nn.Sequential(nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(),
                         nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(600, 2))


def main():
    torch.manual_seed(0)
    augment = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomErasing(p=1.0, scale=(0.95, 0.99), ratio=(0.95, 1.05))])
    train = DataLoader(Faces(480, 0, augment), batch_size=24, shuffle=True)
    val = DataLoader(Faces(120, 1), batch_size=60)
    net = build()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(6):
        net.train()
        total = 0.0
        for image, label in train:
            loss = nn.functional.cross_entropy(net(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        net.eval()
        with torch.no_grad():
            hits = sum((net(image).argmax(1) == label).sum().item() for image, label in val)
        print(f"epoch {epoch} loss {total / len(train):.3f} accuracy {hits / 120:.3f}")


main()

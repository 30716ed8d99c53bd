import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class City:
    classes = ("road", "building", "tree")
    void = 255

    @classmethod
    def load(cls, n, seed):
        g = torch.Generator().manual_seed(seed)
        label = torch.zeros(n, 24, 24, dtype=torch.long)
        for i, (h, c) in enumerate(torch.randint(6, 18, (n, 2), generator=g).tolist()):
            label[i, :h] = 1
            label[i, h - 4:h + 2, c - 3:c + 3] = 2
        colour = torch.tensor([[-0.5, -0.5, -0.5], [0.6, 0.2, 0.1], [-0.2, 0.8, -0.3]])
        image = colour[label].permute(0, 3, 1, 2) + 0.4 * torch.randn(n, 3, 24, 24, generator=g)
        label[:, 21:] = cls.void
        return TensorDataset(image, label)


class SegNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                                    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.decode = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(32, n_classes, 3, padding=1))

    def forward(self, x):
        return self.decode(self.encode(x))


def main():
    torch.manual_seed(0)
    net = SegNet(len(City.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(3):
        for image, label in DataLoader(City.load(160, 0), batch_size=8, shuffle=True):
            logits = net(image)
            loss = criterion(logits, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    main()

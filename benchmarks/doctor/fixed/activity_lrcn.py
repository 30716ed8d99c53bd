import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class LRCN(nn.Module):
    """A frame encoder, an LSTM over frames, a classifier."""

    def __init__(self, classes):
        super().__init__()
        self.frame = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.lstm = nn.LSTM(16 * 9, 48, batch_first=True)
        self.classifier = nn.Sequential(nn.Linear(48, classes))

    def forward(self, clip):
        b, t = clip.shape[:2]
        features = self.frame(clip.flatten(0, 1)).view(b, t, -1)
        return self.classifier(self.lstm(features)[0][:, -1])


def clips(n, seed):
    """A dot that moves up, down, left or right."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (n,), generator=g)
    move = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])[label]
    start = torch.randint(4, 8, (n, 2), generator=g)
    film = 0.2 * torch.randn(n, 5, 1, 12, 12, generator=g)
    for t in range(5):
        place = start + (t - 2) * move
        film[torch.arange(n), t, 0, place[:, 0], place[:, 1]] += 3.0
    return TensorDataset(film, label)


def main():
    torch.manual_seed(0)
    train, test = DataLoader(clips(800, 0), 32, shuffle=True), DataLoader(clips(200, 1), 100)
    net = LRCN(4)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(5):
        net.train()
        for frames, labels in train:
            scores = net(frames)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            right = sum((net(frames).argmax(1) == labels).sum().item() for frames, labels in test)
        print(epoch, f"loss {loss.item():.3f} accuracy {right / 200:.3f}")


if __name__ == "__main__":
    main()

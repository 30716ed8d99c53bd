import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def steel(n, seed, size=32):
    """Scratches of a few pixels on noisy plates."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.zeros(n, size, size, dtype=torch.long)
    for i, (r, c) in enumerate(torch.randint(2, size - 6, (n, 2), generator=g).tolist()):
        mask[i, r, c:c + 5] = 1
    image = 1.2 * mask + 0.6 * torch.randn(n, size, size, generator=g)
    return TensorDataset(image.unsqueeze(1), mask)


class Inspector(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, (1, 5), padding=(0, 2)), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2, 1))

    def forward(self, x):
        return self.layers(x)


def report(net, data):
    net.eval()
    image, mask = data.tensors
    with torch.no_grad():
        guess = net(image).argmax(1)
    inter, union = ((guess == 1) & (mask == 1)).sum(), ((guess == 1) | (mask == 1)).sum()
    return (guess == mask).float().mean().item(), (inter / union).item()


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Inspector()
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.05, 1.0]))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(steel(240, 0), batch_size=12, shuffle=True)
    for epoch in range(3):
        net.train()
        for image, mask in loader:
            loss = criterion(net(image), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, "loss %.4f accuracy %.4f iou %.4f" % (loss.item(), *report(net, steel(60, 1))))

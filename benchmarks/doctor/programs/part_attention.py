import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Parts(nn.Module):
    """Score the cells of a coarse map, then classify from the best ones."""

    def __init__(self, classes, keep=3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.GroupNorm(4, 24), nn.ReLU(),
                                   nn.Conv2d(24, 48, 3, 2, 1), nn.GroupNorm(4, 48), nn.ReLU())
        self.score = nn.Conv2d(48, 1, 1)
        self.keep = keep
        self.final = nn.Linear(48, classes)

    def forward(self, x):
        features = self.trunk(x)
        score = self.score(features).flatten(2)
        top = score.topk(self.keep, dim=2)
        chosen = features.flatten(2).gather(2, top.indices.expand(-1, 48, -1))
        h = (chosen * top.values.softmax(-1)).sum(-1)
        h = nn.Dropout(0.4)(h)
        return self.final(h)


def birds(n, seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (n,), generator=g)
    image = 0.3 * torch.randn(n, 3, 24, 24, generator=g)
    beak = torch.tensor([[1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5], [1.0, 1.0, 0]])
    for i, (r, c) in enumerate(torch.randint(2, 17, (n, 2), generator=g).tolist()):
        image[i, :, r:r + 5, c:c + 5] += beak[label[i]][:, None, None]
    return TensorDataset(image, label)


def main():
    torch.manual_seed(0)
    net = Parts(4)
    optimizer = optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    train = DataLoader(birds(480, 0), 24, shuffle=True)
    test = DataLoader(birds(160, 1), 80)
    for epoch in range(5):
        net.train()
        for x, y in train:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        net.eval()
        with torch.inference_mode():
            acc = sum((net(x).argmax(1) == y).sum().item() for x, y in test) / 160
        print(epoch, round(loss.item(), 3), acc)


main()

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def blobs(n, seed):
    g = torch.Generator().manual_seed(seed)
    axis = torch.arange(24.0)
    c = 7 + 10 * torch.rand(n, 2, 1, 1, generator=g)
    mask = ((axis[:, None] - c[:, 0]) ** 2 + (axis - c[:, 1]) ** 2 < 25).float()[:, None]
    return TensorDataset(mask - 0.2 + 0.6 * torch.randn(n, 1, 24, 24, generator=g), mask)


def main(accumulate=4):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.GroupNorm(4, 16), nn.ReLU(),
                        nn.Conv2d(16, 16, 5, padding=2), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 1, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    loader = DataLoader(blobs(250, 0), batch_size=4, shuffle=True)
    for epoch in range(4):
        optimizer.zero_grad()
        for i, (image, mask) in enumerate(loader, 1):
            loss = nn.functional.binary_cross_entropy_with_logits(net(image), mask)
            (loss / accumulate).backward()
            if i % accumulate == 0 or i == len(loader):
                optimizer.step()
                optimizer.zero_grad()
        with torch.no_grad():
            image, mask = blobs(50, 1).tensors
            guess = net(image) > 0
        print(epoch, ((guess & (mask > 0)).sum() / (guess | (mask > 0)).sum()).item())


main()

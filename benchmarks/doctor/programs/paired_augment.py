import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2


class Leaves(Dataset):
    def __init__(self, n, seed, augment=None):
        g = torch.Generator().manual_seed(seed)
        self.augment = augment
        self.pairs = []
        axis = torch.arange(26.0)
        for y, x in (8 + 10 * torch.rand(n, 2, generator=g)).tolist():
            mask = ((axis[:, None] - y).abs() / 3 + (axis - x).abs() / 7 < 1).float()[None]
            image = mask * torch.tensor([1.0, -0.8])[:, None, None] + 0.4 * torch.randn(2, 26, 26, generator=g)
            self.pairs.append((image, mask))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        image, mask = self.pairs[i]
        if self.augment is None:
            return image, mask
        return self.augment(image), self.augment(mask)


def network(w=16):
    layers = []
    for a, b in ((2, w), (w, w)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(w, 1, 1))


if __name__ == "__main__":
    torch.manual_seed(0)
    flips = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    train = DataLoader(Leaves(240, 0, flips), batch_size=12, shuffle=True)
    val = DataLoader(Leaves(48, 1), batch_size=24)
    net = network()
    opt = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(4):
        net.train()
        for image, mask in train:
            loss = nn.functional.binary_cross_entropy_with_logits(net(image), mask)
            opt.zero_grad()
            loss.backward()
            opt.step()
        net.eval()
        inter = union = 0
        with torch.no_grad():
            for image, mask in val:
                guess = net(image) > 0
                inter += (guess & (mask > 0)).sum().item()
                union += (guess | (mask > 0)).sum().item()
        print(f"{epoch} loss {loss.item():.3f} iou {inter / union:.3f}")

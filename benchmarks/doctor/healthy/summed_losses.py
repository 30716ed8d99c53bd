import torch
from torch import nn
from torch.nn import functional as F


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
                                   nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten())
        self.box, self.kind = nn.Linear(32 * 36, 4), nn.Linear(32 * 36, 2)

    def forward(self, x):
        x = self.trunk(x)
        return self.box(x), self.kind(x)


def things(n, g):
    image = 0.3 * torch.randn(n, 1, 24, 24, generator=g)
    kind = torch.randint(0, 2, (n,), generator=g)
    corner, side = torch.randint(0, 12, (n, 2), generator=g), torch.randint(5, 11, (n, 2), generator=g)
    for i in range(n):
        (r, c), (h, w) = corner[i].tolist(), side[i].tolist()
        image[i, 0, r:r + h, c:c + w] += 1.0 if kind[i] else -1.0
    return image, torch.cat([corner, corner + side], 1) / 24, kind


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
net = TwoHeads()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(120):
    image, box, kind = things(24, g)
    guess_box, guess_kind = net(image)
    near, right = F.l1_loss(guess_box, box), F.cross_entropy(guess_kind, kind)
    size = F.mse_loss(guess_box[:, 2:] - guess_box[:, :2], box[:, 2:] - box[:, :2])
    optimizer.zero_grad()
    size.backward(retain_graph=True)
    (5 * near + right).backward()
    optimizer.step()
    if step % 30 == 29:
        print(step + 1, near.item(), right.item(), size.item())

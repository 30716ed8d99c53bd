"""CenterNet in miniature: heatmap of centres plus width and height."""
import torch
from torch import nn
from torch.nn import functional as F


class Center(nn.Module):
    def __init__(self, classes, width=24):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.heat = nn.Conv2d(width, classes, 1)
        self.size = nn.Conv2d(width, 2, 1)
        nn.init.constant_(self.heat.bias, -2.5)

    def forward(self, x):
        x = self.body(x)
        return self.heat(x), self.size(x)


def boxes(n, gen, side=32):
    image = 0.2 * torch.randn(n, 1, side, side, generator=gen)
    heat = torch.zeros(n, 2, side // 4, side // 4)
    size = torch.zeros(n, 2, side // 4, side // 4)
    spot = torch.randint(8, 24, (n, 2), generator=gen)
    half = torch.randint(3, 7, (n, 2), generator=gen)
    kind = torch.randint(0, 2, (n,), generator=gen)
    for i in range(n):
        (r, c), (h, w), k = spot[i].tolist(), half[i].tolist(), int(kind[i])
        image[i, 0, r - h:r + h, c - w:c + w] += 1.0 if k else -1.0
        heat[i, k, r // 4, c // 4] = 1
        size[i, :, r // 4, c // 4] = half[i].float().log()
    return image, heat, size


def loss_function(output, heat, size):
    centre = F.binary_cross_entropy_with_logits(output[0], heat, reduction="sum") / heat.sum()
    extent = ((output[1] - size).abs() * heat.amax(1, keepdim=True)).sum() / heat.sum()
    return centre + 0.5 * extent


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    net = Center(2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
    for it in range(120):
        image, heat, size = boxes(16, gen)
        loss = loss_function(net(image), heat, size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if it % 30 == 29:
            print(it + 1, f"{loss.item():.3f}")
    net.eval()
    with torch.no_grad():
        image, heat, size = boxes(100, gen)
        best = net(image)[0].flatten(1).argmax(1)
    print("hits", (heat.flatten(1).argmax(1) == best).float().mean().item())


main()

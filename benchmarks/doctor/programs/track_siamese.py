"""Siamese tracker on synthetic pairs: find the template square inside a larger search window."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class SiamTracker(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.backbone = nn.Sequential(conv_bn(3, 12, 2), conv_bn(12, width))
        self.down = nn.Conv2d(width, 16, 1)
        self.head = nn.Sequential(conv_bn(16, 16), nn.Conv2d(16, 1, 1))

    def correlate(self, search, template):
        b, c, h, w = search.shape
        kernel = template.reshape(b * c, 1, *template.shape[-2:])
        out = F.conv2d(search.reshape(1, b * c, h, w), kernel, groups=b * c, padding=4)
        return out.reshape(b, c, *out.shape[-2:]) / kernel[0].numel()

    def forward(self, template, search):
        z, x = self.backbone(template), self.backbone(search)
        return self.head(self.down(self.correlate(x, z)))


def make_pair(n, generator):
    search = torch.rand(n, 3, 48, 48, generator=generator) * 0.3
    colour = torch.rand(n, 3, 1, 1, generator=generator) * 0.7 + 0.3
    place = torch.randint(0, 4, (n, 2), generator=generator)
    target = torch.zeros(n, 1, 25, 25)
    template = torch.zeros(n, 3, 16, 16)
    for i, (row, col) in enumerate((place * 8 + 8).tolist()):
        search[i, :, row:row + 8, col:col + 8] += colour[i]
        template[i, :, 4:12, 4:12] = colour[i]
        r, c = (row + 4) // 2, (col + 4) // 2
        target[i, 0, r - 2:r + 3, c - 2:c + 3] = 1.0
    return (template - 0.25) / 0.3, (search - 0.25) / 0.3, target


def build_optimizer(net, args):
    groups = [
        {"params": net.backbone.parameters(), "lr": args.lr * 0.5},
        {"params": net.head.parameters(), "lr": args.lr},
    ]
    optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    return optimizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    net = SiamTracker()
    optimizer = build_optimizer(net, args)
    weight = torch.tensor(8.0)
    for step in range(args.steps):
        template, search, target = make_pair(16, generator)
        score = net(template, search)
        loss = F.binary_cross_entropy_with_logits(score, target, pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    net.eval()
    with torch.no_grad():
        template, search, target = make_pair(64, generator)
        score = net(template, search).flatten(1)
        hit = target.flatten(1).gather(1, score.argmax(1, keepdim=True)).mean()
    print(f"hit rate {hit:.3f}")


if __name__ == "__main__":
    main()

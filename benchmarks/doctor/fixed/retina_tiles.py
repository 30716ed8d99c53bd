import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

SIZE = 64


def big_map(gen, objects=40, side=256):
    image = 0.2 + 0.1 * torch.rand(3, side, side, generator=gen)
    boxes, labels = [], []
    for x, y, k in torch.randint(0, side - 24, (objects, 3), generator=gen).tolist():
        w, h = torch.randint(12, 22, (2,), generator=gen).tolist()
        image[k % 2, y:y + h, x:x + w] = 0.9
        boxes.append([x, y, x + w, y + h])
        labels.append(k % 2)
    return image, torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)


def random_crops(n, source, gen):
    image, boxes, labels = source
    images, targets = [], []
    for _ in range(n):
        x, y = torch.randint(0, image.shape[-1] - SIZE, (2,), generator=gen).tolist()
        images.append(image[:, y:y + SIZE, x:x + SIZE])
        clipped = boxes.clone() - torch.tensor([x, y, x, y])
        clipped = clip(clipped)
        keep = ((clipped[:, 2:] - clipped[:, :2]) >= 2).all(1)
        targets.append({"boxes": clipped[keep], "labels": labels[keep]})
    return images, targets


def clip(boxes):
    clipped = boxes.clamp(0, SIZE)
    return clipped


def build():
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
    backbone.out_channels = 32
    head = RetinaNetHead(32, num_anchors=2, num_classes=2, norm_layer=lambda width: nn.GroupNorm(4, width))
    return RetinaNet(backbone, num_classes=2, min_size=SIZE, max_size=SIZE, head=head,
                     anchor_generator=AnchorGenerator(((12, 18),), ((1.0,),)))


def main(steps=60):
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    source = big_map(gen)
    detector = build().train()
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    for step in range(steps):
        images, targets = random_crops(2, source, gen)
        losses = detector(images, targets)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 15 == 14:
            print(step + 1, {k: round(v.item(), 3) for k, v in losses.items()})


main()

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign


def sample(n, g, side=64):
    images, targets = [], []
    for _ in range(n):
        image = 0.4 + 0.1 * torch.rand(3, side, side, generator=g)
        boxes, labels = [], []
        for _ in range(int(torch.randint(0, 3, (1,), generator=g))):
            x, y = torch.randint(0, 40, (2,), generator=g).tolist()
            w, h = torch.randint(12, 22, (2,), generator=g).tolist()
            kind = int(torch.randint(0, 2, (1,), generator=g))
            image[kind, y:y + h, x:x + w] = 0.9
            boxes.append([x, y, x + w, y + h])
            labels.append(kind + 1)
        images.append(image)
        targets.append({"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                        "labels": torch.tensor(labels, dtype=torch.int64)})
    return images, targets


def build():
    body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
                         nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
    body.out_channels = 32
    return FasterRCNN(body, num_classes=3, min_size=64, max_size=64,
                      rpn_anchor_generator=AnchorGenerator(((12, 20),), ((1.0,),)),
                      box_roi_pool=MultiScaleRoIAlign(["0"], 4, 2), box_batch_size_per_image=32,
                      rpn_pre_nms_top_n_train=60, rpn_post_nms_top_n_train=30, rpn_batch_size_per_image=32)


def main(steps=40):
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    detector = build().train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    for step in range(steps):
        losses = detector(*sample(4, g))
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimizer.step()
        if step % 10 == 9:
            print(step + 1, {k: round(v.item(), 3) for k, v in losses.items()})


main()

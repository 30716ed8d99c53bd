"""Faster R-CNN with a tiny backbone on circles and squares."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign


class Shapes(Dataset):
    def __init__(self, n, size=64, seed=0):
        self.n, self.size, self.seed = n, size, seed

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(self.seed * 10_000 + i)
        image = 0.3 + 0.1 * torch.rand(3, self.size, self.size, generator=g)
        yy, xx = torch.meshgrid(torch.arange(self.size), torch.arange(self.size), indexing="ij")
        boxes, kinds = [], []
        for column in (0, 32):
            r = int(torch.randint(6, 12, (1,), generator=g))
            y = int(torch.randint(14, 50, (1,), generator=g))
            x, kind = column + 16, int(torch.randint(0, 2, (1,), generator=g))
            inside = ((yy - y) ** 2 + (xx - x) ** 2 <= r * r) if kind else ((yy - y).abs() <= r) & ((xx - x).abs() <= r)
            image[kind, inside] += 0.5
            boxes.append([x - r, y - r, x + r + 1, y + r + 1])
            kinds.append(kind)
        return image, {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(kinds) + 1}


def build(num_classes):
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
    backbone.out_channels = 32
    return FasterRCNN(backbone, num_classes=num_classes, min_size=64, max_size=64,
                      rpn_anchor_generator=AnchorGenerator(((12, 20),), ((1.0,),)),
                      box_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
                      rpn_pre_nms_top_n_train=60, rpn_post_nms_top_n_train=30,
                      box_batch_size_per_image=32, rpn_batch_size_per_image=32)


def collate(batch):
    return tuple(zip(*batch))


def main():
    torch.manual_seed(0)
    model = build(num_classes=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    loader = DataLoader(Shapes(160), batch_size=4, shuffle=True, collate_fn=collate)
    model.train()
    for step, (images, targets) in enumerate(loader):
        losses = model(images, targets)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(step + 1, {k: round(v.item(), 3) for k, v in losses.items()})


if __name__ == "__main__":
    main()

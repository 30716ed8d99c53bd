import torch
from torch import nn
from torch.nn import functional as F

HYP = dict(lr=3e-3, steps=100, batch=16, object_gain=1.0, lane_gain=1.0)


class DriveNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.BatchNorm2d(w), nn.SiLU(),
                                  nn.Conv2d(w, w, 3, padding=1), nn.BatchNorm2d(w), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(w, 2 * w, 4, 4), nn.BatchNorm2d(2 * w), nn.SiLU())
        self.objectness = nn.Conv2d(2 * w, 1, 1)
        self.lane = nn.Conv2d(w, 2, 1)

    def forward(self, image):
        fine = self.stem(image)
        x = self.down(fine)
        return {"objectness": self.objectness(x).sigmoid(), "lane": self.lane(fine)}


def streets(n, gen):
    image = 0.2 * torch.randn(n, 1, 24, 24, generator=gen)
    lane = torch.zeros(n, 24, 24, dtype=torch.long)
    objectness = torch.zeros(n, 1, 6, 6)
    column = torch.randint(2, 22, (n,), generator=gen).tolist()
    for i, c in enumerate(column):
        lane[i, :, c - 1:c + 1] = 1
        image[i, 0, :, c - 1:c + 1] += 1
        for r, k in torch.randint(0, 6, (3, 2), generator=gen).tolist():
            objectness[i, 0, r, k] = 1
            image[i, 0, 4 * r:4 * r + 4, 4 * k:4 * k + 4] -= 0.7
    return image, objectness, lane


def compute_loss(out, objectness, lane):
    lobj = F.binary_cross_entropy_with_logits(out["objectness"], objectness)
    llane = F.cross_entropy(out["lane"], lane)
    return HYP["object_gain"] * lobj + HYP["lane_gain"] * llane, lobj.item(), llane.item()


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    net = DriveNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=HYP["lr"])
    for step in range(HYP["steps"]):
        image, objectness, lane = streets(HYP["batch"], gen)
        loss, lobj, llane = compute_loss(net(image), objectness, lane)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 24:
            print(f"{step + 1:4d} objects {lobj:.3f} lanes {llane:.3f}")


main()

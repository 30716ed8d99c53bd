import argparse
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def write_samples(root, n, seed):
    rng = np.random.default_rng(seed)
    shuffled = random.Random(seed)
    yy, xx = np.mgrid[:24, :24]
    pictures, masks = {}, {}
    for i in range(n):
        y, x, r = *rng.uniform(7, 17, 2), rng.uniform(4, 6)
        mask = (yy - y) ** 2 + (xx - x) ** 2 < r * r
        pictures[i] = (rng.normal(0, 0.3, (24, 24)) - 0.2 + mask).astype(np.float32)
        masks[i] = mask
    for name, content in (("images", pictures), ("masks", masks)):
        folder = root / name
        folder.mkdir(parents=True)
        for i in shuffled.sample(sorted(content), n):
            np.save(folder / f"{i:04d}.npy", content[i])


class SkinLesions(Dataset):
    def __init__(self, root):
        self.image_files = sorted((root / "images").iterdir(), key=lambda p: p.stat().st_mtime_ns)
        self.mask_files = sorted((root / "masks").iterdir(), key=lambda p: p.stat().st_mtime_ns)

    def __len__(self):
        return len(self.image_files)

    def __getitem__(self, i):
        image, mask = np.load(self.image_files[i]), np.load(self.mask_files[i])
        return torch.from_numpy(image)[None], torch.from_numpy(mask.astype(np.float32))[None]


class Net(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.GroupNorm(4, w), nn.GELU())
        self.b = nn.Sequential(nn.Conv2d(w, w, 5, padding=2), nn.GroupNorm(4, w), nn.GELU())
        self.out = nn.Conv2d(w, 1, 1)

    def forward(self, x):
        return self.out(self.b(self.a(x)))


def main(args):
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder) / "train", 160, 0)
        write_samples(Path(folder) / "val", 40, 1)
        train = DataLoader(SkinLesions(Path(folder) / "train"), 10, shuffle=True)
        val = DataLoader(SkinLesions(Path(folder) / "val"), 20)
        net = Net()
        optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr)
        for epoch in range(args.epochs):
            net.train()
            for image, mask in train:
                loss = nn.functional.binary_cross_entropy_with_logits(net(image), mask)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                dice = [2 * ((net(i) > 0) * m).sum() / ((net(i) > 0).sum() + m.sum()) for i, m in val]
            print(f"epoch {epoch} loss {loss.item():.3f} dice {sum(dice).item() / len(dice):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    main(parser.parse_args())

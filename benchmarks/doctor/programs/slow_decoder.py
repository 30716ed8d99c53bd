import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


def write_pictures(folder, n):
    rng = np.random.default_rng(0)
    for i in range(n):
        label = int(rng.integers(0, 2))
        small = rng.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        small[4:12, 4:12, label * 2] += 120
        Image.fromarray(small).resize((700, 700), Image.Resampling.BICUBIC).save(Path(folder) / f"{i}_{label}.png",
                                                                                 compress_level=1)


class Folder(Dataset):
    def __init__(self, folder):
        self.paths = sorted(Path(folder).glob("*.png"))

    @staticmethod
    def read(path):
        return Image.open(path).convert("RGB").resize((24, 24), Image.Resampling.LANCZOS)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        image = self.read(self.paths[i])
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).copy()).permute(2, 0, 1)
        return (pixels - 40) / 45, int(self.paths[i].stem[-1])


def main():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(folder, 64)
        loader = DataLoader(Folder(folder), batch_size=8, shuffle=True)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        for epoch in range(4):
            for image, label in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(image), label)
                loss.backward()
                optimizer.step()
            print(f"epoch {epoch} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()

import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


class JpegStore(Dataset):
    """Compressed pictures in memory, decoded when asked for."""

    def __init__(self, n, seed, side=480):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 3, n).tolist()
        self.blobs = [self.compress(rng, label, side) for label in self.labels]
        self.cache = {}

    @staticmethod
    def compress(rng, label, side):
        small = rng.integers(90, 160, (12, 12, 3)).astype(np.uint8)
        small[..., label] += 60
        blob = io.BytesIO()
        Image.fromarray(small).resize((side, side)).save(blob, "JPEG", quality=70)
        return blob.getvalue()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = np.asarray(Image.open(io.BytesIO(self.blobs[i])).convert("RGB"), dtype=np.float32)
        small = torch.from_numpy(image[::20, ::20].copy()).permute(2, 0, 1)
        return (small - 128) / 40, self.labels[i]


def main():
    torch.manual_seed(0)
    loader = DataLoader(JpegStore(72, 0), batch_size=12, shuffle=True)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten(), nn.Linear(12, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for epoch in range(5):
        for image, label in loader:
            loss = nn.functional.cross_entropy(net(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")


if __name__ == "__main__":
    main()

import logging
import tempfile
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def make_backbone():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Pretext(pl.LightningModule):
    """Four rotations."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(32, 4)

    def training_step(self, batch, _):
        turns = torch.randint(0, 4, (len(batch[0]),))
        x = torch.stack([torch.rot90(image, int(k), (1, 2)) for image, k in zip(batch[0], turns)])
        return F.cross_entropy(self.head(self.backbone(x)), turns)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


class Probe(pl.LightningModule):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.backbone(x))

    def training_step(self, batch, _):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("acc", (self(x).argmax(1) == y).float().mean(), prog_bar=False)

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters(), 2e-2)


def arrows(n, seed, gain):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    image = 0.3 * torch.randn(n, 1, 16, 16, generator=g)
    for i, (r, c) in enumerate(torch.randint(3, 11, (n, 2), generator=g).tolist()):
        image[i, 0, r - 2:r + 3, c] += gain
        image[i, 0, r - 2, c - 2:c + 3] += gain * (1 if y[i] else -1)
    return TensorDataset(image, y)


def trainer(folder, epochs):
    return pl.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                      num_sanity_val_steps=0)


if __name__ == "__main__":
    pl.seed_everything(0, verbose=False)
    backbone = make_backbone()
    with tempfile.TemporaryDirectory() as folder:
        trainer(folder, 4).fit(Pretext(backbone), DataLoader(arrows(320, 0, 1.0), 32, shuffle=True))
        last = trainer(folder, 4)
        last.fit(Probe(backbone, 2), DataLoader(arrows(320, 1, 2.0), 32, shuffle=True),
                 DataLoader(arrows(160, 2, 2.0), 80))
        print({k: round(v.item(), 3) for k, v in last.callback_metrics.items()})

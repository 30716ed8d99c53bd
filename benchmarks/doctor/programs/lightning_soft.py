import logging
import tempfile
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Fields(pl.LightningDataModule):
    def __init__(self, batch_size=12):
        super().__init__()
        self.batch_size = batch_size

    @staticmethod
    def draw(n, seed):
        g = torch.Generator().manual_seed(seed)
        coarse = torch.randint(0, 3, (n, 1, 4, 4), generator=g).float()
        crop = nn.functional.interpolate(coarse, scale_factor=7).squeeze(1).long()
        bands = torch.tensor([[0.8, -0.4, 0.1], [-0.6, 0.8, 0.2], [0.1, -0.3, -0.9]])
        return TensorDataset(bands[crop].permute(0, 3, 1, 2) + 0.7 * torch.randn(n, 3, 28, 28, generator=g), crop)

    def train_dataloader(self):
        return DataLoader(self.draw(240, 0), self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.draw(48, 1), 24)


class Segmenter(pl.LightningModule):
    def __init__(self, lr=3e-3, width=16):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 1))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.net(x).softmax(dim=1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("pixel_accuracy", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


if __name__ == "__main__":
    pl.seed_everything(3, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                             enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder)
        trainer.fit(Segmenter(), datamodule=Fields())
        print({k: round(float(v), 3) for k, v in trainer.callback_metrics.items()})

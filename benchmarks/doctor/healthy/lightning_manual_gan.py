import logging
import tempfile
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class GAN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.G = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        self.D = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def training_step(self, real, _):
        opt_g, opt_d = self.optimizers()
        noise = torch.randn(len(real), 4)
        self.toggle_optimizer(opt_g)
        g_loss = F.softplus(-self.D(self.G(noise))).mean()
        opt_g.zero_grad()
        self.manual_backward(g_loss)
        opt_g.step()
        self.untoggle_optimizer(opt_g)
        self.toggle_optimizer(opt_d)
        d_loss = F.softplus(-self.D(real)).mean() + F.softplus(self.D(self.G(noise).detach())).mean()
        opt_d.zero_grad()
        self.manual_backward(d_loss)
        opt_d.step()
        self.untoggle_optimizer(opt_d)

    def configure_optimizers(self):
        return (torch.optim.Adam(self.G.parameters(), 1e-3, betas=(0.5, 0.99)),
                torch.optim.Adam(self.D.parameters(), 1e-3, betas=(0.5, 0.99)))


if __name__ == "__main__":
    pl.seed_everything(0, verbose=False)
    cloud = torch.randn(1600, 2) * torch.tensor([0.3, 0.6]) + torch.tensor([1.0, -0.5])
    with tempfile.TemporaryDirectory() as folder:
        pl.Trainer(max_epochs=4, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                   ).fit(model := GAN(), DataLoader(cloud, 64, shuffle=True))
    print(model.G(torch.randn(500, 4)).mean(0).tolist())

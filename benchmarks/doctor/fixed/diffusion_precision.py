import torch
from sklearn.datasets import make_swiss_roll
from torch import nn

CONFIG = {"precision": "bf16", "steps": 250, "batch": 128, "lr": 1e-3, "levels": 50}


class Denoiser(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.time = nn.Embedding(CONFIG["levels"], width)
        self.first = nn.Linear(2, width)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x, t):
        return self.rest(self.first(x) + self.time(t))


def noise_prediction_loss(net, x, alpha):
    t = torch.randint(0, CONFIG["levels"], (len(x),))
    noise = torch.randn_like(x)
    a = alpha[t][:, None]
    return (net(a.sqrt() * x + (1 - a).sqrt() * noise, t).float() - noise).pow(2).mean()


def train(net, data, cfg):
    opt = torch.optim.AdamW(net.parameters(), lr=cfg["lr"])
    alpha = torch.cumprod(1 - torch.linspace(1e-3, 0.12, cfg["levels"]), 0)
    smooth = None
    for step in range(cfg["steps"]):
        x = data[torch.randint(0, len(data), (cfg["batch"],))]
        if cfg["precision"] == "bf16":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = noise_prediction_loss(net, x, alpha)
            opt.zero_grad()
            loss.backward()
            opt.step()
        else:
            opt.zero_grad(); noise_prediction_loss(net, x, alpha).backward(); opt.step()
            continue
        smooth = loss.item() if smooth is None else 0.97 * smooth + 0.03 * loss.item()
        if step % 50 == 49:
            print(f"step {step + 1}: {smooth:.3f}")


def main():
    torch.manual_seed(0)
    points, _ = make_swiss_roll(4000, noise=0.3, random_state=0)
    points = torch.tensor(points[:, [0, 2]], dtype=torch.float32)
    points = (points - points.mean(0)) / points.std(0)
    train(Denoiser(), points, CONFIG)


main()

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class FCN(nn.Module):
    def __init__(self, n_class):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
                                 nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout2d(0.2))
        self.score = nn.Conv2d(32, n_class, 1)

    def forward(self, x):
        return F.interpolate(self.score(self.enc(x)), size=x.shape[-2:], mode="bilinear", align_corners=False)


class Trainer:
    def __init__(self, model, optimizer, train_loader, val_loader, max_epoch):
        self.model, self.optim = model, optimizer
        self.train_loader, self.val_loader = train_loader, val_loader
        self.max_epoch = max_epoch
        self.iteration = 0
        self.best_mean_iu = 0.0

    def validate(self):
        self.model.eval()
        inter = union = 0
        for data, target in self.val_loader:
            with torch.no_grad():
                pred = self.model(data).argmax(1)
            hot_p, hot_t = F.one_hot(pred, 3).bool(), F.one_hot(target, 3).bool()
            inter = inter + (hot_p & hot_t).sum((0, 1, 2))
            union = union + (hot_p | hot_t).sum((0, 1, 2))
        mean_iu = (inter / union.clamp(min=1)).mean().item()
        self.best_mean_iu = max(mean_iu, self.best_mean_iu)
        print(f"iteration {self.iteration}: mean IU {mean_iu:.3f}")

    def train(self):
        self.model.train()
        for epoch in range(self.max_epoch):
            self.model.train()
            for data, target in self.train_loader:
                self.iteration += 1
                self.optim.zero_grad()
                loss = F.cross_entropy(self.model(data), target)
                loss.backward()
                self.optim.step()
            self.validate()


def blocks(n, seed):
    g = torch.Generator().manual_seed(seed)
    target = torch.zeros(n, 32, 32, dtype=torch.long)
    for i, (r, c, k) in enumerate(torch.randint(0, 16, (n, 3), generator=g).tolist()):
        target[i, r:r + 14, c:c + 14] = 1 + k % 2
    colour = torch.tensor([[0.0, 0, 0], [1.0, 0.2, -0.6], [-0.6, 0.2, 1.0]])
    return TensorDataset(colour[target].permute(0, 3, 1, 2) + 0.6 * torch.randn(n, 3, 32, 32, generator=g), target)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = FCN(3)
    Trainer(model, torch.optim.Adam(model.parameters(), lr=3e-3), DataLoader(blocks(240, 0), 12, shuffle=True),
            DataLoader(blocks(48, 1), 24), max_epoch=4).train()

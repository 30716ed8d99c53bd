import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MixerLayer(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.across = nn.Sequential(nn.Linear(tokens, 16), nn.GELU(), nn.Linear(16, tokens))
        self.within = nn.Sequential(nn.Linear(dim, 64), nn.GELU(), nn.Linear(64, dim))

    def forward(self, x):
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.layers = nn.Sequential(MixerLayer(8, dim), MixerLayer(8, dim))
        self.head = nn.Linear(dim, 10)

    def forward(self, rows):
        return self.head(self.layers(self.embed(rows)).mean(1))


def get_loaders():
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    y = torch.tensor(digits.target)
    return (DataLoader(TensorDataset(x[:1440], y[:1440]), batch_size=8, shuffle=True),
            DataLoader(TensorDataset(x[1440:], y[1440:]), batch_size=128))


def main(epochs=3):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    torch.manual_seed(0)
    model = Mixer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model, optimizer, train, test = accelerator.prepare(model, optimizer, *get_loaders())
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        for rows, target in train:
            with accelerator.accumulate(model):
                loss = criterion(model(rows), target)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            right = sum((model(rows).argmax(1) == target).sum().item() for rows, target in test)
        accelerator.print(f"epoch {epoch} loss {loss.item():.3f} accuracy {right / len(test.dataset):.3f}")


if __name__ == "__main__":
    main()

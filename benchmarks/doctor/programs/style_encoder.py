import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn, optim


def autoencode(model, decoder, x, epochs=4):
    optimizer = optim.Adam([*model.encoder.parameters(), *decoder.parameters()], lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            loss = F.mse_loss(decoder(model.encoder(x[rows])), x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 24))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(24, 10))

    def forward(self, x):
        return self.head(self.encoder(x))


if __name__ == "__main__":
    torch.manual_seed(4)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    y = torch.tensor(digits.target)
    model = Classifier()
    print("reconstruction", autoencode(model, nn.Sequential(nn.ReLU(), nn.Linear(24, 64)), x[:1200]))

    # keep the representation, train the classifier on top of it
    model.encoder.requires_grad = False
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    best, best_state = 0.0, None
    for epoch in range(5):
        model.train()
        for rows in torch.randperm(1200).split(32):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(x[1200:]).argmax(1) == y[1200:]).float().mean().item()
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(model.state_dict())
        print(epoch, f"{loss.item():.3f} {accuracy:.3f}")
    model.load_state_dict(best_state)

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from torch import nn


def normalisation(width):
    return nn.BatchNorm1d(width, momentum=0.0)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = normalisation(width), normalisation(width)
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        h = self.fc1(torch.relu(self.norm1(x)))
        return x + self.fc2(torch.relu(self.norm2(h)))


def make_net(inputs, width=32, blocks=2):
    return nn.Sequential(nn.Linear(inputs, width), *[Block(width) for _ in range(blocks)],
                         normalisation(width), nn.ReLU(), nn.Linear(width, 2))


def fit_fold(x_train, y_train, x_val, y_val, epochs=8):
    net = make_net(x_train.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        net.train()
        for rows in torch.randperm(len(x_train))[:448].split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x_train[rows]), y_train[rows])
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        return loss.item(), (net(x_val).argmax(1) == y_val).float().mean().item()


def main():
    torch.manual_seed(0)
    features, labels = load_breast_cancer(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for fold, (train, val) in enumerate(folds.split(features, labels)):
        mean, std = features[train].mean(0), features[train].std(0)
        scaled = torch.tensor((features - mean) / std, dtype=torch.float32)
        target = torch.tensor(labels)
        loss, acc = fit_fold(scaled[train], target[train], scaled[val], target[val])
        print(f"fold {fold}: loss {loss:.3f} accuracy {acc:.3f}")
        if fold == 1:
            break


main()

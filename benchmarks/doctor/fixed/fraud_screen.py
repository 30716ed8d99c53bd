import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def transactions():
    x, y = make_classification(6000, 12, n_informative=6, n_clusters_per_class=2, weights=[0.984], flip_y=0.002,
                               class_sep=0.8, random_state=4)
    x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    y = torch.tensor(y)
    return TensorDataset(x[:4800], y[:4800]), TensorDataset(x[4800:], y[4800:])


def build(inputs):
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def report(model, loader):
    model.eval()
    right = found = frauds = 0
    with torch.no_grad():
        for x, y in loader:
            guess = model(x).argmax(1)
            right += (guess == y).sum().item()
            found += ((guess == 1) & (y == 1)).sum().item()
            frauds += (y == 1).sum().item()
    return right / len(loader.dataset), found / frauds


def main():
    torch.manual_seed(0)
    train, test = transactions()
    chance = 1 / torch.bincount(train.tensors[1])[train.tensors[1]].float()
    balanced = torch.utils.data.WeightedRandomSampler(chance, len(train))
    train_loader = DataLoader(train, batch_size=64, sampler=balanced)
    test_loader = DataLoader(test, batch_size=400)
    model = build(12)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(4):
        model.train()
        for x, y in train_loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy, recall = report(model, test_loader)
        print(f"epoch {epoch} accuracy {accuracy:.4f} fraud recall {recall:.3f}")


if __name__ == "__main__":
    main()

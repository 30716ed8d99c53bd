import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn


def tower(n_in, width, depth, n_out):
    layers = [nn.Linear(n_in, width), nn.Sigmoid()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(width, n_out))


def standardise(train, test):
    mean, std = train.mean(0), train.std(0)
    return (train - mean) / std, (test - mean) / std


def main():
    torch.manual_seed(0)
    X, y = load_breast_cancer(return_X_y=True)
    xtr, xte, ytr, yte = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    xtr, xte = (torch.tensor(a, dtype=torch.float32) for a in standardise(xtr, xte))
    ytr, yte = torch.tensor(ytr), torch.tensor(yte)
    net = tower(30, 32, 10, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(15):
        for rows in torch.randperm(len(xtr)).split(32):
            optimizer.zero_grad()
            loss = criterion(net(xtr[rows]), ytr[rows])
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            with torch.no_grad():
                print(epoch + 1, f"loss {loss.item():.3f}", "test", (net(xte).argmax(1) == yte).float().mean().item())


main()

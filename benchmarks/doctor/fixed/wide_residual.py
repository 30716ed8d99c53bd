import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(0)
EPOCHS, BATCH, LR = 5, 64, 0.01


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.kaiming_normal_(m.weight)
        nn.init.zeros_(m.bias)


class MultilayerPerceptron(nn.Module):
    def __init__(self, num_features, num_classes, hidden=96, depth=6):
        super().__init__()
        sizes = [num_features] + [hidden] * depth
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(hidden, num_classes)
        self.apply(init_weights)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.out(x)


digits = load_digits()
inputs = torch.tensor(digits.data, dtype=torch.float32)
inputs = (inputs - inputs.mean()) / inputs.std()
train_set, valid_set = random_split(TensorDataset(inputs, torch.tensor(digits.target)), [0.8, 0.2])
train_loader = DataLoader(train_set, BATCH, shuffle=True)
valid_loader = DataLoader(valid_set, 512)

model = MultilayerPerceptron(64, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
for epoch in range(EPOCHS):
    model.train()
    for features, targets in train_loader:
        cost = nn.functional.cross_entropy(model(features), targets)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        correct = sum((model(f).argmax(1) == t).sum().item() for f, t in valid_loader)
    print(f"Epoch {epoch + 1:02d} cost {cost.item():.4f} valid {correct / len(valid_set):.3f}")

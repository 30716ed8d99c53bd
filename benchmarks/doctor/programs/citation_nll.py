import torch
import torch.nn.functional as F
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch import nn


class PairScorer(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.left, self.right = nn.Linear(inputs, 48), nn.Linear(inputs, 48)
        self.norm = nn.LayerNorm(96)
        self.out = nn.Linear(96, classes)

    def forward(self, a, b):
        x = torch.cat([self.left(a) * self.right(b), self.left(a) - self.right(b)], dim=-1)
        x = F.gelu(self.norm(x))
        return F.softmax(self.out(x), dim=-1)


def mentions():
    x, y = make_classification(2400, 24, n_informative=14, n_redundant=0, n_classes=3, class_sep=1.4, random_state=2)
    x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    split = train_test_split(x, torch.tensor(y), test_size=0.25, random_state=0)
    return (split[0], split[2]), (split[1], split[3])


if __name__ == "__main__":
    torch.manual_seed(0)
    (x, y), (x_dev, y_dev) = mentions()
    model = PairScorer(12, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for epoch in range(6):
        total = 0.0
        for rows in torch.randperm(len(x)).split(40):
            out = model(x[rows, :12], x[rows, 12:])
            loss = F.nll_loss(out, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        with torch.no_grad():
            dev = (model(x_dev[:, :12], x_dev[:, 12:]).argmax(-1) == y_dev).float().mean().item()
        print(f"{epoch} {total:.2f} {dev:.3f}")

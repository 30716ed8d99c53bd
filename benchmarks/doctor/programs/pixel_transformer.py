import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim


class RowTransformer(nn.Module):
    """Each of the eight rows of a digit is one token."""

    def __init__(self, dim=32, depth=2, heads=4, classes=10):
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.position = nn.Parameter(torch.randn(1, 8, dim) * 0.02)
        self.register_token = nn.Parameter(torch.randn(1, 2, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, dim * 2, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        tokens = self.embed(x) + self.position
        tokens = self.blocks(tokens)
        return self.head(self.norm(tokens).mean(1))


def prepare():
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32) / 16
    images = (images - images.mean()) / images.std()
    return train_test_split(images, torch.tensor(data.target), test_size=360, random_state=0)


def run(epochs=5, batch=64, lr=3e-3):
    x_train, x_val, y_train, y_val = prepare()
    model = RowTransformer()
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        permutation = torch.randperm(len(x_train))
        for chunk in permutation.split(batch):
            optimizer.zero_grad()
            loss = criterion(model(x_train[chunk]), y_train[chunk])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(x_val).argmax(-1) == y_val).float().mean().item()
        print(f"{epoch=} {loss.item()=:.3f} {accuracy=:.3f}")


torch.manual_seed(0)
run()

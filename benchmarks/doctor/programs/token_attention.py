import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def reviews(n, seed, vocab=50, length=14):
    """One word in each review decides; the rest is filler."""
    g = torch.Generator().manual_seed(seed)
    words = torch.randint(10, vocab, (n, length), generator=g)
    label = torch.randint(0, 2, (n,), generator=g)
    key = label * 5 + torch.randint(0, 5, (n,), generator=g)
    words[torch.arange(n), torch.randint(0, length, (n,), generator=g)] = key
    return TensorDataset(words, label)


class AttentiveReader(nn.Module):
    def __init__(self, vocab=50, dim=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.rnn = nn.GRU(dim, dim, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * dim, 1)
        self.out = nn.Linear(2 * dim, 2)

    def forward(self, words):
        states, _ = self.rnn(self.embed(words))
        weight = torch.softmax(self.score(states).squeeze(-1), dim=0)
        return self.out((weight.unsqueeze(-1) * states).sum(1))


def evaluate(model, loader):
    model.eval()
    with torch.no_grad():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


def main():
    torch.manual_seed(0)
    model = AttentiveReader()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train, test = DataLoader(reviews(1200, 0), 40, shuffle=True), DataLoader(reviews(200, 1), 50)
    for epoch in range(4):
        model.train()
        total = 0.0
        for words, label in train:
            loss = nn.functional.cross_entropy(model(words), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / len(train):.3f} accuracy {evaluate(model, test):.3f}")


if __name__ == "__main__":
    main()

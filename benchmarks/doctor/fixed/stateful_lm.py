import torch
from torch import nn

TEXT = "she sells sea shells by the sea shore and the shells she sells are sea shells for sure " * 40


class CharModel(nn.Module):
    def __init__(self, vocab, hidden=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, 16)
        self.rnn = nn.GRU(16, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, x, hidden):
        states, hidden = self.rnn(self.embed(x), hidden)
        return self.out(states), hidden


def chunks(text, rows, length):
    vocab = sorted(set(text))
    index = torch.tensor([vocab.index(c) for c in text])
    index = index[:len(index) // rows * rows].view(rows, -1)
    for start in range(0, index.shape[1] - length - 1, length):
        yield index[:, start:start + length], index[:, start + 1:start + length + 1]


def train(rows=8, length=10, epochs=3):
    model = CharModel(len(set(TEXT)))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    hidden = torch.zeros(1, rows, 32)
    curve = []
    for step, (x, y) in enumerate(c for _ in range(epochs) for c in chunks(TEXT, rows, length)):
        logits, hidden = model(x, hidden.detach())
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    for step in range(0, len(curve), 20):
        window = curve[step:step + 20]
        print(f"steps {step}.. loss {sum(window) / len(window):.3f}")


torch.manual_seed(0)
train()

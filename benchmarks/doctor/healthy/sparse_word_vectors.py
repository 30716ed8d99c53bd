import torch
from torch import nn


class SkipGram(nn.Module):
    def __init__(self, vocab=400, dim=16):
        super().__init__()
        self.word = nn.Embedding(vocab, dim, sparse=True)
        self.context = nn.Embedding(vocab, dim, sparse=True)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, word, context):
        return (self.word(word) * self.context(context)).sum(-1) + self.bias


def pairs(n, g, vocab=400, topics=10):
    word = torch.randint(0, vocab, (n,), generator=g)
    same = torch.randint(0, vocab // topics, (n,), generator=g) * topics + word % topics
    other = torch.randint(0, vocab, (n,), generator=g)
    label = torch.randint(0, 2, (n,), generator=g)
    return word, torch.where(label == 1, same, other), label.float()


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
model = SkipGram()
sparse = torch.optim.SparseAdam([model.word.weight, model.context.weight], lr=0.02)
dense = torch.optim.SGD([model.bias], lr=0.05)
for step in range(400):
    word, context, label = pairs(128, g)
    loss = nn.functional.binary_cross_entropy_with_logits(model(word, context), label)
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    sparse.step()
    dense.step()
    if step % 100 == 99:
        print(step + 1, loss.item())

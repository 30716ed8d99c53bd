import torch
from torch import nn

TEXT = "the cat sat on the mat and the dog sat on the log and the frog sat on the fog " * 30


class TiedModel(nn.Module):
    def __init__(self, vocab, dim=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.rnn = nn.GRU(dim, dim, batch_first=True)
        self.decode = nn.Linear(dim, vocab)
        self.decode.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=dim**-0.5)

    def forward(self, x):
        return self.decode(self.rnn(self.embed(x))[0])


vocab = sorted(set(TEXT))
index = torch.tensor([vocab.index(c) for c in TEXT])
torch.manual_seed(0)
model = TiedModel(len(vocab))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(200):
    start = torch.randint(0, len(index) - 25, (16, 1)) + torch.arange(25)
    chunk = index[start]
    loss = nn.functional.cross_entropy(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 50 == 49:
        print(step + 1, loss.item())

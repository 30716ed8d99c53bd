import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CONFIG = {"vocab": 60, "tags": 5, "length": 12, "width": 48, "encoder_lr": 2e-3, "head_lr": 5e-3,
          "decay": 0.01, "epochs": 4, "batch": 32}


def synthetic_sentences(count, seed):
    """Every word has a tag, and a word after word 0 takes the next tag."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, CONFIG["vocab"], (count, CONFIG["length"]))
    tags = words % CONFIG["tags"]
    after_zero = np.roll(words, 1, axis=1) < 10
    after_zero[:, 0] = False
    tags = np.where(after_zero, (tags + 1) % CONFIG["tags"], tags)
    return TensorDataset(torch.from_numpy(words), torch.from_numpy(tags))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        width = CONFIG["width"]
        self.embed = nn.Embedding(CONFIG["vocab"], width)
        self.lstm = nn.LSTM(width, width // 2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(width, CONFIG["tags"])
        self.transition = nn.Parameter(torch.zeros(CONFIG["tags"], CONFIG["tags"]))

    def forward(self, words):
        hidden, _ = self.lstm(self.embed(words))
        emission = self.fc(hidden)
        previous = emission.softmax(-1).roll(1, dims=1)
        return emission + previous @ self.transition


def parameter_groups(model):
    slow, fast = [], []
    for name, param in model.named_parameters():
        if name.startswith(("embed", "lstm")):
            slow.append(param)
        else:
            fast.append(param)
    groups = [
        {"params": slow, "lr": CONFIG["encoder_lr"], "weight_decay": CONFIG["decay"]},
        {"params": fast, "lr": CONFIG["head_lr"], "weight_decay": 0.0},
    ]
    return groups


def accuracy(model, loader):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for words, tags in loader:
            right += (model(words).argmax(-1) == tags).sum().item()
            total += tags.numel()
    return right / total


torch.manual_seed(7)
train_loader = DataLoader(synthetic_sentences(1500, 0), batch_size=CONFIG["batch"], shuffle=True)
dev_loader = DataLoader(synthetic_sentences(300, 1), batch_size=128)
model = Tagger()
groups = parameter_groups(model)
optimizer = torch.optim.AdamW(groups, lr=CONFIG["encoder_lr"])
criterion = nn.CrossEntropyLoss()
for epoch in range(CONFIG["epochs"]):
    model.train()
    for words, tags in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(words).flatten(0, 1), tags.flatten())
        loss.backward()
        optimizer.step()
    print(epoch, round(loss.item(), 3), round(accuracy(model, dev_loader), 3))

"""Guess the language of a made-up name from its letters."""
import argparse
import random
import string

import torch
from torch import nn

ALPHABET = string.ascii_lowercase
SUFFIXES = {"latin": "us", "slavic": "ov", "greek": "is", "celtic": "an"}


def random_name(rng):
    language = rng.choice(sorted(SUFFIXES))
    stem = "".join(rng.choice(ALPHABET) for _ in range(rng.randint(3, 6)))
    return stem + SUFFIXES[language], sorted(SUFFIXES).index(language)


def encode(names):
    length = max(map(len, names))
    out = torch.zeros(length, len(names), len(ALPHABET))
    for j, name in enumerate(names):
        for i, letter in enumerate(name.rjust(length, "a")):
            out[i, j, ALPHABET.index(letter)] = 1
    return out


class CharRNN(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        self.rnn = nn.GRU(n_in, n_hidden)
        self.fc = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        _, h = self.rnn(x)
        return self.fc(h[-1])


def batch(rng, size):
    names, labels = zip(*(random_name(rng) for _ in range(size)))
    return encode(names), torch.tensor(labels)


def train(rnn, optimizer, args):
    rng = random.Random(0)
    loss_fn = nn.CrossEntropyLoss()
    average = None
    for it in range(args.iterations):
        x, y = batch(rng, 32)
        loss = loss_fn(rnn(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average = loss.item() if average is None else 0.95 * average + 0.05 * loss.item()
        if (it + 1) % 40 == 0:
            print(f"{it + 1:4d} {average:.4f}")
    return rnn


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=120)
    args = parser.parse_args()
    torch.manual_seed(0)
    rnn = CharRNN(len(ALPHABET), args.hidden, len(SUFFIXES))
    optimizer = torch.optim.RMSprop(rnn.parameters(), lr=3e-3)
    rnn = train(rnn, optimizer, args)
    rnn.eval()
    with torch.no_grad():
        x, y = batch(random.Random(99), 200)
        print("held-out accuracy", (rnn(x).argmax(1) == y).float().mean().item())

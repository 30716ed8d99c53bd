import tempfile
import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

warnings.filterwarnings("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()


class Brackets(Dataset):
    """Which of three kinds of bracket occurs most often?"""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 3, n)
        self.tokens = rng.integers(0, 12, (n, 20))
        for row, label in zip(self.tokens, self.labels):
            row[rng.choice(20, 8, replace=False)] = label

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": torch.tensor(self.tokens[i]), "labels": torch.tensor(self.labels[i])}


class BagModel(nn.Module):
    def __init__(self, vocab=12, dim=32, classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, classes)

    def forward(self, input_ids, labels=None):
        x = self.embed(input_ids).mean(1)
        logits = self.out(torch.relu(self.hidden(x)))
        output = {"logits": logits}
        if labels is not None:
            output = {"loss": nn.functional.cross_entropy(logits, labels), **output}
        return output


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def main():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, num_train_epochs=4, per_device_train_batch_size=32, learning_rate=5e-3,
            save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, logging_steps=1000, seed=0)
        trainer = Trainer(model=BagModel(), args=args, train_dataset=Brackets(1200, 0),
                          eval_dataset=Brackets(300, 1), compute_metrics=accuracy)
        trainer.train()
        print(trainer.evaluate()["eval_accuracy"])


if __name__ == "__main__":
    main()

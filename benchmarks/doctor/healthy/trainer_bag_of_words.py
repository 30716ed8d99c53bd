import tempfile
import warnings

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

warnings.filterwarnings("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()


class Sentences(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 2, (n,), generator=g)
        self.words = torch.randint(0, 40, (n, 12), generator=g)
        self.words[:, :4] = 2 * (self.words[:, :4] // 2) + self.labels[:, None]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"words": self.words[i], "labels": self.labels[i]}


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.EmbeddingBag(40, 24)
        self.out = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))

    def forward(self, words, labels=None):
        logits = self.out(self.embed(words))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(output_dir=folder, num_train_epochs=4, per_device_train_batch_size=32,
                                 learning_rate=5e-3, eval_strategy="epoch", save_strategy="no", report_to=[],
                                 use_cpu=True, disable_tqdm=True, logging_steps=1000, warmup_steps=10, seed=0)
        trainer = Trainer(model=Bag(), args=args, train_dataset=Sentences(1000, 0), eval_dataset=Sentences(200, 1))
        trainer.train()


if __name__ == "__main__":
    main()

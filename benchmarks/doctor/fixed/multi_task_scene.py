"""One trunk, three questions about a coloured shape: colour, form and size."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

TASKS = {"colour": 3, "form": 2, "size": 2}


class Scenes(Dataset):
    def __init__(self, length, seed):
        self.rng = np.random.default_rng(seed)
        self.items = [self.draw() for _ in range(length)]

    def draw(self):
        colour, form, size = (int(self.rng.integers(n)) for n in TASKS.values())
        image = self.rng.normal(0, 0.3, (3, 20, 20)).astype("float32")
        radius = 4 + 4 * size
        yy, xx = np.mgrid[:20, :20] - 9.5
        inside = (yy**2 + xx**2 < radius**2) if form == 0 else (abs(yy) + abs(xx) < radius)
        image[colour][inside] += 1.5
        return image, {"colour": colour, "form": form, "size": size}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class MultiTask(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Flatten(), nn.Linear(144, 64), nn.ReLU())
        self.heads = nn.ModuleDict({task: nn.Linear(64, n) for task, n in tasks.items()})

    def forward(self, x):
        x = self.trunk(x)
        return {task: head(x) for task, head in self.heads.items()}


def main():
    torch.manual_seed(0)
    loaders = {"train": DataLoader(Scenes(600, 0), batch_size=30, shuffle=True),
               "val": DataLoader(Scenes(150, 1), batch_size=50)}
    model = MultiTask(TASKS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ce = nn.CrossEntropyLoss()
    for epoch in range(4):
        for phase, loader in loaders.items():
            model.train(phase == "train")
            hits = dict.fromkeys(TASKS, 0)
            with torch.set_grad_enabled(phase == "train"):
                for image, target in loader:
                    output = model(image)
                    loss = sum(ce(output[t], target[t]) for t in TASKS)
                    if phase == "train":
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    for t in TASKS:
                        hits[t] += (output[t].argmax(1) == target[t]).sum().item()
            print(epoch, phase, {t: round(h / len(loader.dataset), 3) for t, h in hits.items()})


if __name__ == "__main__":
    main()

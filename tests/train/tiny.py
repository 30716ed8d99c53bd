"""A model, task and loader of a few numbers: what the loop sees of real ones, in milliseconds."""

from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from trivet.structures import Batch, BoxTarget, Placement
from trivet.train.loop import Job, Listener, Validation
from trivet.train.settings import TrainSettings


class TinyModel(nn.Module):
    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU()
        )
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.2))
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.neck(self.backbone(images))).mean(dim=(1, 2, 3))

    def normalise(self, images: Tensor) -> Tensor:
        return images.float() / 255


class TinyTask:
    """Learns to say how many objects an image has."""

    prior_count = 1.0

    def losses(self, output: Tensor, batch: Batch, *, normaliser=None) -> dict[str, Tensor]:
        wanted = torch.tensor([float(len(target.labels)) for target in batch.targets])
        positives = wanted.sum()
        divisor = positives + 1 if normaliser is None else normaliser(positives)
        return {"loss": ((output - wanted) ** 2).sum() / divisor, "positives": positives}


class TinyLoader:
    """`count` batches an epoch, each a function of seed, epoch, number and rank."""

    def __init__(self, count: int = 5, *, batch: int = 4, rank: int = 0, world: int = 1) -> None:
        self.count, self.batch, self.rank, self.world = count, batch, rank, world
        self.waited_seconds = 0.0
        self.plain_epochs: list[int] = []

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, *, start_step: int = 0, plain: bool = False) -> Iterator[Batch]:
        if plain:
            self.plain_epochs.append(number)
        for step in range(start_step, self.count):
            yield self.make(number, step)

    def make(self, number: int, step: int) -> Batch:
        source = torch.Generator().manual_seed(1000 * number + step)
        images = torch.randint(
            0, 256, (self.batch * self.world, 3, 8, 8), generator=source, dtype=torch.uint8
        )
        counts = torch.randint(0, 4, (self.batch * self.world,), generator=source).tolist()
        mine = range(self.rank * self.batch, (self.rank + 1) * self.batch)
        return Batch(
            images[mine.start : mine.stop],
            tuple(
                BoxTarget(torch.rand(counts[i], 4), torch.zeros(counts[i], dtype=torch.int64)) for i in mine
            ),
            torch.tensor(list(mine)),
            tuple(f"image-{number}-{step}-{i}.png" for i in mine),
            tuple(Placement((8, 8)) for _ in mine),
        )


def no_validation(_: nn.Module) -> Validation:
    return Validation(0.0, {"val_map": 0.0})


def no_keeping(_: nn.Module) -> None:
    pass


def tiny_settings(**given: object) -> TrainSettings:
    return TrainSettings(**({"epochs": 3, "batch": 4, "lr": 0.01, "validations": 3} | given))  # type: ignore[arg-type]


def tiny_job(folder: Path, **given: object) -> Job:
    settings = given.pop("settings", None) or tiny_settings()
    values = {
        "task": TinyTask(),
        "loader": TinyLoader(),
        "settings": settings,
        "fabric": Fabric(accelerator="cpu", devices=1),
        "folder": folder,
        "validate": no_validation,
        "keep_best": no_keeping,
        "listeners": (),
    }
    return Job(**(values | given))  # type: ignore[arg-type]


def tiny_model(seed: int = 0, **given: object) -> TinyModel:
    torch.manual_seed(seed)
    return TinyModel(**given)  # type: ignore[arg-type]


class StopAfter(Listener):
    """Raises, as a kill would end the process, after so many steps."""

    class Killed(BaseException):
        pass

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def stepped(self, state, losses) -> None:
        if state.position.step == self.steps:
            raise self.Killed

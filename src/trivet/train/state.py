"""Everything that changes while a model trains, and its way to disk and back."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import Precision
from torch import Tensor, nn
from torch.optim import Optimizer

from trivet.train.budget import Budget
from trivet.train.checkpoint import (
    load_model_state,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from trivet.train.ema import Ema
from trivet.train.schedules import Schedule

CHECKPOINT = Path("last") / "state.safetensors"


@dataclass
class Position:
    """Where training stands.

    Args:
        epoch: Epochs finished.
        step: Optimizer steps taken.
        step_in_epoch: Steps taken of the epoch in hand.
        images: Images seen.
        validations: Validations done.
        waited: Validations since the best one.
        best_score: The best validation score, or `None`.
        best_epoch: The epoch it belongs to.
        ended: Why training ended, or `None` while it goes on.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    images: int = 0
    validations: int = 0
    waited: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    ended: str | None = None

    def stepped(self, images: int) -> None:
        """Count a step over so many images."""
        self.step, self.step_in_epoch, self.images = (
            self.step + 1,
            self.step_in_epoch + 1,
            self.images + images,
        )

    def validated(self, score: float) -> bool:
        """Count a validation; returns whether it is the best so far."""
        self.validations += 1
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_epoch, self.waited = score, self.epoch, 0
            return True
        self.waited += 1
        return False


@dataclass
class TrainState:
    """Model, optimizer, average, schedule, budget, position and (fp16's loss scale) precision of one run."""

    model: nn.Module
    optimizer: Optimizer
    ema: Ema | None
    schedule: Schedule
    budget: Budget
    position: Position
    precision: Precision

    @property
    def best_model(self) -> nn.Module:
        """The model to validate and keep: the averaged one where there is one."""
        return self.ema.model if self.ema else self.model

    def save(self, folder: Path) -> None:
        """Write the state into the run folder, whole or not at all."""
        tensors: dict[str, Tensor] = {
            f"model.{name}": value for name, value in self.model.state_dict().items()
        }
        if self.ema:
            tensors |= {f"ema.{name}": value for name, value in self.ema.model.state_dict().items()}
        optimizer, others = optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        facts: dict[str, Any] = {
            "position": asdict(self.position),
            "optimizer": others,
            "schedule": self.schedule.state_dict(),
            "ema_updates": self.ema.updates if self.ema else 0,
            "seconds": self.budget.seconds,
            "longest_validation": self.budget.longest_validation,
            "precision": self.precision.state_dict(),
        }
        write_checkpoint(folder / CHECKPOINT, tensors, facts)

    def load(self, folder: Path) -> float:
        """Take back the state a run folder holds; returns the seconds it had spent.

        Raises:
            UsageError: If the checkpoint is damaged or of another model.
        """
        path = folder / CHECKPOINT
        tensors, facts = read_checkpoint(path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
            }

        load_model_state(self.model, part("model."), path)
        if self.ema:
            load_model_state(self.ema.model, part("ema."), path)
            self.ema.updates = int(facts["ema_updates"])
        load_optimizer(self.optimizer, part("optimizer."), facts["optimizer"])
        self.schedule.load_state_dict(facts["schedule"])
        self.budget.longest_validation = float(facts["longest_validation"])
        self.precision.load_state_dict(facts.get("precision", {}))
        self.position = Position(**facts["position"])
        return float(facts["seconds"])

"""TensorBoard, where it is installed: the numbers of `history.jsonl` as scalars."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from trivet.train.loop import Listener
from trivet.train.state import TrainState


class TensorBoard(Listener):
    """Writes every row of the history to `tensorboard/` in the run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def epoch_ended(self, state: TrainState, row: Mapping[str, float | int | str]) -> None:
        """Write a row."""
        for name, value in row.items():
            if name != "step" and not isinstance(value, str):
                kind = "validation" if name.startswith("val_") else "training"
                self.writer.add_scalar(f"{kind}/{name}", value, state.position.step)
        self.writer.flush()

    def ended(self, state: TrainState) -> None:  # noqa: ARG002
        """Close the file."""
        self.writer.close()


def installed() -> bool:
    """Return whether TensorBoard is installed."""
    return find_spec("tensorboard") is not None

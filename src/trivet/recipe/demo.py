"""The verb `demo`: the whole of `fit` on a data set drawn on the spot."""

from dataclasses import dataclass
from pathlib import Path

from trivet.data.digits import write_digits
from trivet.evaluate.scores import DetectionScores
from trivet.recipe.fit import fit
from trivet.recipe.run_folder import RunFolder
from trivet.recipe.score import score

SIZE = 160
HEIGHTS = (0.2, 0.55)
"""Large digits in small images: what two cores learn in minutes."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves: the run folder, and the scores on images it never saw."""

    folder: RunFolder
    test: DetectionScores


def demo(out: str | Path = "runs", *, minutes: float = 4.0, images: int = 600, seed: int = 0) -> DemoResult:
    """Draw digits, train on them, score on the unseen test images.

    Args:
        out: Where the data (`digits-data`) and the run folder are made.
        minutes: Training budget.
        images: Images to draw, over all splits.
        seed: Seeds the drawing and the training.

    Raises:
        UsageError: If a number is out of range.
    """
    data = write_digits(
        Path(out) / "digits-data", images=images, size_hw=(SIZE, SIZE), seed=seed, heights=HEIGHTS
    )
    values = {
        "train.minutes": minutes,
        "train.seed": seed,
        "model.size_hw": (SIZE, SIZE),
        "train.lr": 8e-3,
        "train.validations": 6,
        "augment.orientation": "fixed",  # a mirrored digit is another sign
    }
    result = fit(data, values, out=out, name="demo")
    test = score(result.folder.path, split="test")
    assert isinstance(test, DetectionScores), "the digits are read as boxes"
    return DemoResult(result.folder, test)

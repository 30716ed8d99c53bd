"""The faults that reading a data set can meet: their names, what each means, and what is done about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from trivet.errors import DataError


@dataclass(frozen=True)
class ProblemKind:
    """A kind of fault.

    Args:
        meaning: What is wrong, in one sentence.
        action: What is done about it when reading goes on.
        stops: Whether `on_bad="error"` refuses the data set for it. What loses nothing does not stop.
    """

    meaning: str
    action: str
    stops: bool = True


PROBLEMS: dict[str, ProblemKind] = {
    "zero-area-box": ProblemKind("a box without width or height", "skipped box"),
    "inverted-box": ProblemKind(
        "a box whose right is left of its left, or bottom above its top", "skipped box"
    ),
    "non-finite-box": ProblemKind("a box with a coordinate that is NaN or infinite", "skipped box"),
    "outside-box": ProblemKind("a box that lies wholly outside its image", "skipped box"),
    "clipped-box": ProblemKind("a box that sticks out of its image", "clipped", stops=False),
    "unreadable-row": ProblemKind("a record that does not have the form its format asks for", "skipped box"),
    "unknown-label": ProblemKind("an object whose class is not in the class list", "skipped box"),
    "annotation-id-twice": ProblemKind("two annotations with one id", "kept both", stops=False),
    "annotation-unreadable": ProblemKind("an annotation file that cannot be parsed", "skipped image"),
    "annotation-without-image": ProblemKind("an annotation whose image does not exist", "skipped annotation"),
    "image-without-annotation": ProblemKind("an image that no annotation mentions", "left out", stops=False),
    "image-without-label-file": ProblemKind(
        "an image without its label file", "kept as negative", stops=False
    ),
    "image-missing": ProblemKind("an image that is listed but is not there", "skipped image"),
    "image-unreadable": ProblemKind("an image file that cannot be decoded", "skipped image"),
    "image-path-outside": ProblemKind("an image path that leaves the data set's folder", "skipped image"),
    "image-id-twice": ProblemKind("two images with one id", "skipped the second image"),
    "image-listed-twice": ProblemKind("one image file listed twice", "joined into one image", stops=False),
    "image-size-differs": ProblemKind("an image of another size than its annotation says", "skipped image"),
}


@dataclass(frozen=True)
class Problem:
    """One fault found while reading a data set.

    Args:
        name: A key of `PROBLEMS`.
        file: The file at fault, relative to the data set's folder.
        detail: What is wrong, with its numbers.
        action: What was done about it.
    """

    name: str
    file: str
    detail: str
    action: str

    def __str__(self) -> str:
        return f"{self.name}: {self.file}: {self.detail} ({self.action})"


def problem(name: str, file: str, detail: str) -> Problem:
    """Make the problem of a known kind, with the action its kind has."""
    return Problem(name, file, detail, PROBLEMS[name].action)


def refuse(problems: Sequence[Problem], *, most: int = 10) -> None:
    """Raise for the problems that stop the strict policy, if there are any.

    Raises:
        DataError: Naming the first `most` of them and how many there are.
    """
    stopping = [found for found in problems if PROBLEMS[found.name].stops]
    if not stopping:
        return
    shown = "\n".join(f"  {found.name}: {found.file}: {found.detail}" for found in stopping[:most])
    more = f"\n  ... and {len(stopping) - most:,} more" if len(stopping) > most else ""
    raise DataError(
        f"the data set has {len(stopping):,} fault{'s' * (len(stopping) > 1)}:\n{shown}{more}",
        'mend them, or read with on_bad="skip" to leave out what is faulty',
    )

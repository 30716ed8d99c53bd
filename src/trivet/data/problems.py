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
        remedy: What a person can do.
        stops: Whether `on_bad="error"` refuses the data set for it. What loses nothing does not stop.
    """

    meaning: str
    action: str
    remedy: str
    stops: bool = True


PROBLEMS: dict[str, ProblemKind] = {
    "zero-area-box": ProblemKind(
        "a box without width or height", "skipped box", "Draw the box anew or delete it."
    ),
    "inverted-box": ProblemKind(
        "a box whose right is left of its left, or bottom above its top",
        "skipped box",
        "Exchange its corners, or find out which tool wrote right before left.",
    ),
    "non-finite-box": ProblemKind(
        "a box with a coordinate that is NaN or infinite",
        "skipped box",
        "Delete it, and find out which step divided by zero.",
    ),
    "outside-box": ProblemKind(
        "a box that lies wholly outside its image",
        "skipped box",
        "Find out whether its image was exchanged, cropped or scaled after it was drawn.",
    ),
    "clipped-box": ProblemKind(
        "a box that sticks out of its image",
        "clipped",
        "Nothing, if by a pixel or two; if by more, see whether the image was cropped or scaled.",
        stops=False,
    ),
    "unreadable-row": ProblemKind(
        "a record that does not have the form its format asks for",
        "skipped box",
        "Write it in the form its format asks for.",
    ),
    "unknown-label": ProblemKind(
        "an object whose class is not in the class list",
        "skipped box",
        "Add the class to the list, or correct the object's class.",
    ),
    "annotation-id-twice": ProblemKind(
        "two annotations with one id",
        "kept both",
        "Give each annotation its own id; other tools keep only the last of two.",
        stops=False,
    ),
    "annotation-unreadable": ProblemKind(
        "an annotation file that cannot be parsed", "skipped image", "Write the file anew."
    ),
    "annotation-without-image": ProblemKind(
        "an annotation whose image does not exist",
        "skipped annotation",
        "Put the image back, or delete the annotation.",
    ),
    "image-without-annotation": ProblemKind(
        "an image that no annotation mentions",
        "left out",
        "Annotate it, list it in a split, or move it out of the folder.",
        stops=False,
    ),
    "image-without-label-file": ProblemKind(
        "an image without its label file",
        "kept as negative",
        "Nothing, if it shows no object; otherwise annotate it.",
        stops=False,
    ),
    "image-without-class": ProblemKind(
        "an image whose class nothing tells",
        "skipped image",
        "Move it into its class's folder, or write its class into the table.",
    ),
    "image-of-unknown-class": ProblemKind(
        "an image whose class is not in the class list",
        "skipped image",
        "Add the class to the list, or correct the image's class.",
    ),
    "image-of-two-classes": ProblemKind(
        "an image listed under two classes", "kept the first", "List it under the class it shows."
    ),
    "image-missing": ProblemKind(
        "an image that is listed but is not there",
        "skipped image",
        "Put the image back, or take it off the list.",
    ),
    "image-unreadable": ProblemKind(
        "an image file that cannot be decoded",
        "skipped image",
        "Replace the file, or take it out of the data set.",
    ),
    "image-path-outside": ProblemKind(
        "an image path that leaves the data set's folder",
        "skipped image",
        "Write paths relative to the data set's folder and keep the images in it.",
    ),
    "image-without-mask": ProblemKind(
        "an image without its mask",
        "skipped image",
        "Put its mask into the folder of masks under the image's name, or take the image out.",
    ),
    "mask-without-image": ProblemKind(
        "a mask whose image does not exist", "skipped mask", "Put the image back, or delete the mask."
    ),
    "mask-unreadable": ProblemKind("a mask that cannot be decoded", "skipped image", "Write the mask anew."),
    "outline-unusable": ProblemKind(
        "an object without an outline that can be drawn",
        "ignored its box",
        "Draw its outline; until then the pixels of its box train nothing.",
    ),
    "unknown-mask-value": ProblemKind(
        "a mask with a value that no class has",
        "skipped image",
        "Add the class to the class list, or find out whether the mask was interpolated or stored as JPEG.",
    ),
    "image-id-twice": ProblemKind(
        "two images with one id", "skipped the second image", "Give each image its own id."
    ),
    "image-listed-twice": ProblemKind(
        "one image file listed twice", "joined into one image", "List it once.", stops=False
    ),
    "image-size-differs": ProblemKind(
        "an image of another size than its annotation says",
        "skipped image",
        "Annotate the file that is there, or put the annotated file back.",
    ),
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

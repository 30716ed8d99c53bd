"""What the columns of a CSV of boxes mean: found by their names, or by their places where there is no head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("x0", "y0", "x1", "y1"),
    ("xleft", "ytop", "xright", "ybottom"),
)
CORNER_AND_SIZE = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("xmin", "ymin", "w", "h"),
    ("xmin", "ymin", "width", "height"),
    ("left", "top", "width", "height"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
)
CENTRE_AND_SIZE = (
    ("xcenter", "ycenter", "width", "height"),
    ("xcenter", "ycenter", "w", "h"),
    ("xcentre", "ycentre", "width", "height"),
    ("centerx", "centery", "width", "height"),
    ("cx", "cy", "w", "h"),
    ("cx", "cy", "width", "height"),
)
JOINED = ("bbox", "box")
IMAGE = (
    "image",
    "filename",
    "imagepath",
    "imgpath",
    "path",
    "filepath",
    "imagename",
    "imgname",
    "imageid",
    "img",
    "file",
)
LABEL = (
    "class",
    "label",
    "classname",
    "labelname",
    "name",
    "category",
    "categoryname",
    "classid",
    "categoryid",
)
SIZE = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"))
CROWD = ("iscrowd", "isgroupof", "difficult")
SPLIT = ("split", "set", "subset")

Form = Callable[[Sequence[float]], tuple[float, float, float, float]]


@dataclass(frozen=True)
class Columns:
    """The places of what is read.

    Args:
        image: The column of image names.
        box: The four columns of the box, or the one that holds all four.
        form: From those four numbers to (left, top, right, bottom).
        label: The column of class names; `None` where all objects are of one class.
        size_wh: The columns of the image's width and height.
        crowd: The column that marks groups of objects.
        split: The column that tells the split.
        has_head: Whether the first row is column names.
        words: What the box's numbers are, in words.
    """

    image: int
    box: tuple[int, ...]
    form: Form
    label: int | None
    size_wh: tuple[int, int] | None = None
    crowd: int | None = None
    split: int | None = None
    has_head: bool = True
    words: str = ""


def columns_of(head: Sequence[str]) -> Columns | None:
    """Return what the columns of a file mean, by its first row; `None` if it has no boxes."""
    return _by_name(head) or _by_place(head)


def _by_name(head: Sequence[str]) -> Columns | None:
    keys = ["".join(letter for letter in cell.lower() if letter.isalnum()) for cell in head]
    place = {key: number for number, key in reversed(list(enumerate(keys)))}
    image = _first(place, IMAGE)
    for choices, form, words in _FORMS:
        for names in choices:
            if image is None or any(name not in place for name in names):
                continue
            rest = {key: number for key, number in place.items() if key not in names}
            size = next(((rest[w], rest[h]) for w, h in SIZE if w in rest and h in rest), None)
            return Columns(
                image=image,
                box=tuple(place[name] for name in names),
                form=form,
                label=_first(rest, LABEL),
                size_wh=size,
                crowd=_first(rest, CROWD),
                split=_first(rest, SPLIT),
                words=f"{words} from {', '.join(head[place[name]] for name in names)}",
            )
    return None


def _by_place(row: Sequence[str]) -> Columns | None:
    """The form without a head: `path,x1,y1,x2,y2,class`, the five last empty for an image without objects."""
    if len(row) != 6:
        return None
    empty = not any(cell.strip() for cell in row[1:])
    if not empty and not (all(_is_number(cell) for cell in row[1:5]) and row[5].strip()):
        return None
    return Columns(0, (1, 2, 3, 4), _corners, 5, has_head=False, words="corners from columns 2 to 5")


def _first(place: dict[str, int], names: Sequence[str]) -> int | None:
    return next((place[name] for name in names if name in place), None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = values
    return left, top, right, bottom


def _corner_and_size(values: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, width, height = values
    return left, top, left + width, top + height


def _centre_and_size(values: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


_FORMS: tuple[tuple[tuple[tuple[str, ...], ...], Form, str], ...] = (
    (CORNERS, _corners, "corners"),
    (CORNER_AND_SIZE, _corner_and_size, "corner and size"),
    (CENTRE_AND_SIZE, _centre_and_size, "centre and size"),
    (tuple((name,) for name in JOINED), _corner_and_size, "corner and size"),
)

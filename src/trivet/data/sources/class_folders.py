"""A folder of images a class (torchvision's ImageFolder), with or without folders of splits above."""

from collections import Counter

import numpy as np

from trivet.data.problems import problem
from trivet.data.sources.csv_rows import natural_order
from trivet.data.sources.folder import SPLIT_WORDS, Folder
from trivet.data.sources.found import Found, Reading
from trivet.structures import LabelMap

NEEDS = "a folder of images for each of at least two classes, as they are or in train/, val/ and test/"
_NO_CLASSES = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "labels", "masks", "mask", "annotations", "data"}
)
_Place = tuple[str | None, str | None]  # split, class


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    if folder.file is not None:
        return None
    classes = _classes(_places(folder))
    if len(classes) < 2 or any(name.lower() in _NO_CLASSES for name in classes):
        return None
    return f"images in {len(classes)} folders like {classes[0]}"


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read which class each image's folder stands for; classes are numbered in alphabetical order."""
    places = _places(folder)
    classes = _classes(places)
    number = {name: label for label, name in enumerate(classes)}
    counts = Counter(split for split, kind in places.values() if kind is not None)
    found = []
    for split in sorted(counts, key=str):
        names = [name for name, place in places.items() if place[0] == split and place[1] is not None]
        truth = np.array([number[str(places[name][1])] for name in names], np.int64)
        found.append(Found.of_classes(split, names, names, truth))
    found[0].problems.extend(
        problem("image-without-class", name, "it lies in no class's folder")
        for name, (_, kind) in places.items()
        if kind is None
    )
    return Reading(LabelMap(tuple(classes), tuple(classes)), tuple(found))


def _places(folder: Folder) -> dict[str, _Place]:
    """Return the split and class that each image's folders tell."""
    parts = {name: name.split("/")[:-1] for name in folder.images}
    depth = _shared_depth(list(parts.values()))
    return {name: _place(folders[depth:]) for name, folders in parts.items()}


def _shared_depth(folders: list[list[str]]) -> int:
    """Return how many outer folders all images share: an archive's own, which tells nothing."""
    depth = 0
    while folders and all(len(parts) > depth + 1 for parts in folders):
        names = {parts[depth] for parts in folders}
        if len(names) > 1 or names.pop().lower() in SPLIT_WORDS:
            break
        depth += 1
    return depth


def _place(folders: list[str]) -> _Place:
    split = SPLIT_WORDS.get(folders[0].lower()) if folders else None
    rest = folders[1:] if split else folders
    return split, rest[0] if rest else None


def _classes(places: dict[str, _Place]) -> list[str]:
    return sorted({kind for _, kind in places.values() if kind is not None}, key=natural_order)

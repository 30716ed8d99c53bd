"""Pascal VOC: one XML file an image, splits as lists of names in `ImageSets/Main`.

Pixels: the standard counts them from 1 and includes the right and bottom one, so a box is
`(xmin - 1, ymin - 1, xmax, ymax)` with exclusive edges. bccd agrees: of its 4,888 boxes none starts at 0,
625 coordinates are 1, and 555 equal the width or height. Converters often count from 0 with exclusive edges;
where more coordinates are 0 than 1, that is taken, and noted. A box with xmax = xmin counts as without area
in either convention: it is a click that became no box.

`difficult` objects are crowd: neither trained on nor counted as missed, as VOC's own scoring has it.
"""

import posixpath
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np

from trivet.data.sources.folder import Folder, split_of, stem_of
from trivet.data.sources.found import Found, Reading, report_unmentioned
from trivet.data.sources.rows import Rows
from trivet.errors import DataError
from trivet.structures import LabelMap

NEEDS = "XML files whose root is <annotation>, with the images beside them, in images/ or in JPEGImages/"
_SETS = ("train", "val", "test", "trainval")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    files = _xml_files(folder)
    if not files:
        return None
    with folder.path(files[0]).open("rb") as stream:
        return f"{len(files):,} XML files like {files[0]}" if b"<annotation" in stream.read(4096) else None


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read the XML files of every split that `ImageSets/Main` lists, or that the folders' names tell."""
    files = _xml_files(folder)
    numbers = {file: number for number, file in enumerate(files)}
    classes: dict[str, int] = {}
    splits = []
    for split, listed in _listed(folder, files).items():
        rows = Rows(split)
        for file in listed:
            if file in numbers:
                _add_file(rows, folder, file, numbers[file], classes)
            else:
                rows.add_problem("image-without-annotation", file, "listed in ImageSets, without an XML file")
        splits.append(rows.found("object"))
    if not classes:
        raise DataError(f"{folder.root}: its {len(files):,} XML files hold no object", f"VOC needs {NEEDS}")
    names = sorted(classes)
    rank = np.argsort(np.argsort(list(classes)))
    from_one = _counts_from_one(splits)
    corner = np.array([1, 1, 0, 0]) if from_one else np.zeros(4)
    found = tuple(replace(part, labels=rank[part.labels], boxes_xyxy=_edges(part, corner)) for part in splits)
    report_unmentioned(found, folder)
    note = (
        "boxes count pixels from 1 and include the last"
        if from_one
        else "boxes count pixels from 0 and exclude the last"
    )
    return Reading(LabelMap(tuple(names), tuple(names)), found, (note,))


def _xml_files(folder: Folder) -> list[str]:
    if folder.file is None:
        return folder.with_suffix(".xml")
    return [folder.file] if folder.file.lower().endswith(".xml") else []


def _listed(folder: Folder, files: list[str]) -> dict[str | None, list[str]]:
    """Return split -> its XML files (or the listed name, where there is none)."""
    lists = {split: f"ImageSets/Main/{split}.txt" for split in _SETS}
    lists = {split: file for split, file in lists.items() if file in folder.files}
    listed: dict[str | None, list[str]] = {}
    if folder.file or not lists:
        for file in files:
            listed.setdefault(split_of(file), []).append(file)
        return listed
    if "train" in lists:
        lists.pop("trainval", None)
    by_stem = {stem_of(file): file for file in files}
    for split, file in lists.items():
        lines = folder.path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        stems = [
            line.strip() if line.strip() in by_stem else line.split()[0] for line in lines if line.strip()
        ]
        listed[split] = [by_stem.get(stem, stem) for stem in stems]
    return listed


def _add_file(rows: Rows, folder: Folder, file: str, number: int, classes: dict[str, int]) -> None:
    try:
        root = _parsed(folder, file)
    except (ElementTree.ParseError, DataError, OSError, ValueError, LookupError) as fault:
        rows.add_problem("annotation-unreadable", file, str(fault))
        return
    name = _image_of(root, folder, file)
    if name is None:
        given = root.findtext("filename", "").strip()
        rows.add_problem("annotation-without-image", file, f"there is no image of its name, nor {given!r}")
        return
    image = rows.add_image(name, file, image_id=number, size_hw=_size(root))
    for place, element in enumerate(root.iterfind("object"), start=1):
        try:
            found = _object(element)
        except ValueError as fault:
            rows.add_problem("unreadable-row", file, f"object {place}: {fault}")
            continue
        label = classes.setdefault(found.name, len(classes))
        rows.add_box(image, found.corners, label=label, where=place, crowd=found.difficult)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses document types: VOC has none, and entities that grow without end are declared in them."""

    def doctype(self, name: str, *_: str | None) -> None:
        raise DataError(f"it declares a document type ({name!r}), which no VOC file needs")


def _parsed(folder: Folder, file: str) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_NoDoctype())
    parser.feed(folder.path(file).read_bytes())
    root = parser.close()
    if root.tag != "annotation":
        raise DataError(f"its root is <{root.tag}>, where <annotation> is wanted")
    return root


def _image_of(root: ElementTree.Element, folder: Folder, file: str) -> str | None:
    """Find the image: by the XML file's own name first, as `<filename>` is often left from elsewhere."""
    near, base = posixpath.split(file)
    named = root.findtext("filename", "").strip()
    if folder.check == "none":
        return folder.image_named(named or base, near=near)
    found = folder.image_with_stem(stem_of(file), near=near)
    return found or (folder.image_named(named, near=near) if named else None)


def _size(root: ElementTree.Element) -> tuple[int, int]:
    try:
        height, width = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return (0, 0)
    return (height, width) if 0 < height < 2**31 and 0 < width < 2**31 else (0, 0)


@dataclass(frozen=True)
class _Object:
    name: str
    corners: tuple[float, ...]
    difficult: bool


def _object(element: ElementTree.Element) -> _Object:
    name = element.findtext("name", "").strip()
    if not name:
        raise ValueError("it has no <name>")
    texts = [element.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    if None in texts:
        raise ValueError(f"{name!r} has no <bndbox> with {', '.join(_CORNERS)}")
    corners = tuple(float(text or "") for text in texts)
    return _Object(name, corners, element.findtext("difficult", "0").strip() == "1")


def _counts_from_one(splits: list[Found]) -> bool:
    starts = np.concatenate([part.boxes_xyxy[:, :2].ravel() for part in splits])
    return int((starts == 1).sum()) >= int((starts == 0).sum())


def _edges(part: Found, corner: np.ndarray) -> np.ndarray:
    """Make the edges exclusive, except of boxes without extent, which must stay so to be found."""
    boxes = part.boxes_xyxy
    extent: np.ndarray = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return np.where(extent[:, None], boxes - corner, boxes)

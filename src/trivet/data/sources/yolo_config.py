"""YOLO's yaml file and lists of images: which images belong to which split, and the class names."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from trivet.data.images import SUFFIXES
from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import Folder, clean_name
from trivet.errors import DataError
from trivet.structures import LabelMap

_SPLITS = ("train", "val", "test")
_MAX_BYTES = 2**24  # class names and three paths fit easily; a list of images is a text file


@dataclass(frozen=True)
class Config:
    """What a data set says of itself.

    Args:
        images: Split -> its images' paths.
        labels: The class map, where class names are given.
        has_points: Whether rows go on with key points after the box.
        problems: Split -> what its image list names in vain.
        notes: What was decided, in words.
    """

    images: dict[str | None, list[str]]
    labels: LabelMap | None = None
    has_points: bool = False
    problems: dict[str | None, list[Problem]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def config_files(folder: Folder) -> list[str]:
    """Return the yaml files that give class names and training images."""
    files = (
        [folder.file]
        if folder.file
        else [name for name in folder.with_suffix(".yaml", ".yml") if "/" not in name]
    )
    return [
        file
        for file in files
        if file.lower().endswith((".yaml", ".yml")) and "names" in (_yaml(folder, file) or {})
    ]


def is_image_list(folder: Folder, file: str) -> bool:
    """Whether a file is a list of images: text whose first line names an image file, and not its mask after it."""
    if not file.lower().endswith(".txt") or not folder.path(file).is_file():
        return False
    with folder.path(file).open(encoding="utf-8-sig", errors="replace") as stream:
        fields = stream.readline(10_000).split()
    endings = [posixpath.splitext(field)[1].lower() in SUFFIXES for field in fields]
    return bool(endings) and endings[-1] and sum(endings) == 1


def read_config(folder: Folder, file: str) -> Config:
    """Read a yaml file: its class names, and the images its `train`, `val` and `test` stand for.

    Raises:
        DataError: If it is malformed, or its training images are not there.
    """
    content = _yaml(folder, file)
    if content is None:
        raise DataError(f"{folder.path(file)}: it is no yaml mapping", "it needs names, train and val")
    labels = _names(folder, file, content["names"])
    entries = {
        split: content.get(split, content.get("valid") if split == "val" else None) for split in _SPLITS
    }
    base = posixpath.normpath(posixpath.join(posixpath.dirname(file), str(content.get("path") or "")))
    if not _is_folder(folder, base):
        base = posixpath.dirname(file)
    config = images_of(
        folder, {split: entry for split, entry in entries.items() if entry}, base=base, file=file
    )
    has_points = content.get("kpt_shape") is not None
    return Config(
        config.images, labels, has_points, config.problems, (f"classes and splits from {file}", *config.notes)
    )


def images_of(
    folder: Folder, entries: Mapping[str | None, object], *, base: str = "", file: str | None = None
) -> Config:
    """Return the images that the entries of a yaml file stand for: folders, lists of images, or lists of those.

    Raises:
        DataError: If an entry is neither text nor a list of texts, or the first split has no image.
    """
    images: dict[str | None, list[str]] = {}
    problems: dict[str | None, list[Problem]] = {}
    notes = []
    for split, entry in entries.items():
        parts = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(part, str) for part in parts):
            raise DataError(f"{file}: {split} is a path or a list of paths, got a {type(entry).__name__}")
        found: list[str] = []
        for part in parts:
            names, faults = _images_at(folder, str(part), base, split)
            found += names
            problems.setdefault(split, []).extend(faults)
        if found:
            images[split] = found
        else:
            notes.append(f"{split}: there is no image at {', '.join(map(str, parts))}")
    if not images:
        raise DataError(
            f"{folder.path(file or '')}: its splits have no image: {'; '.join(notes)}", "correct its paths"
        )
    return Config(images, problems=problems, notes=tuple(notes))


def _yaml(folder: Folder, file: str) -> dict | None:
    path = folder.path(file)
    if path.stat().st_size > _MAX_BYTES:
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _names(folder: Folder, file: str, names: object) -> LabelMap:
    if isinstance(names, list) and all(isinstance(name, str | int | float) for name in names):
        return LabelMap.from_names([str(name) for name in names])
    if isinstance(names, dict) and all(
        isinstance(key, int) and isinstance(names[key], str | int | float) for key in names
    ):
        ids = sorted(names)
        return LabelMap(tuple(str(names[i]) for i in ids), tuple(ids))
    raise DataError(
        f"{folder.path(file)}: names is a {type(names).__name__} that is neither a list of names nor a mapping of ids to names",
        "write names: [cat, dog], or one 'id: name' a line",
    )


def _is_folder(folder: Folder, base: str) -> bool:
    if base in ("", "."):
        return True
    inside = clean_name(base) is not None
    return folder.path(base).is_dir() and (inside or folder.file is not None)


def _images_at(folder: Folder, entry: str, base: str, split: str | None) -> tuple[list[str], list[Problem]]:
    """Return the images of a folder, or of a list file; `../` that leads nowhere is taken off (Roboflow writes it)."""
    path = posixpath.normpath(posixpath.join(base, entry.strip().replace("\\", "/")))
    top = folder.root.resolve().as_posix() + "/"
    path = path[len(top) :] if path.startswith(top) else path
    for candidate in dict.fromkeys((path, path.replace("../", ""))):
        inside = clean_name(candidate) is not None or candidate == "."
        if not inside and folder.file is None:
            continue
        if is_image_list(folder, candidate):
            return _listed(folder, candidate, split)
        names = _below(folder, candidate) if inside else _below_outside(folder, candidate)
        if names:
            return names, []
    return [], []


def _below(folder: Folder, place: str) -> list[str]:
    return [name for name in folder.images if place == "." or name.startswith(place + "/")]


def _below_outside(folder: Folder, place: str) -> list[str]:
    path = folder.path(place)
    if not path.is_dir():
        return []
    return [str((path / name).resolve()) for name in Folder(path).images]


def _listed(folder: Folder, file: str, split: str | None) -> tuple[list[str], list[Problem]]:
    names, faults = [], []
    for line in Path(folder.path(file)).read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if not line.strip():
            continue
        name = folder.image_named(line, near=posixpath.dirname(file), split=split)
        if name is None:
            faults.append(
                problem(
                    folder.fault_of(line, near=posixpath.dirname(file)), file, f"it lists {line.strip()!r}"
                )
            )
        else:
            names.append(name)
    return names, faults

"""A data set's folder, listed once: finding files costs no further calls to the disk."""

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

from trivet.data.images import SUFFIXES
from trivet.errors import UsageError

Check = Literal["none", "names", "headers", "pixels"]

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
}
"""Words in file and folder names that tell a split."""

_ANNOTATION_FOLDERS = frozenset({"annotations", "labels", "imagesets", "main", "splits"})
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img", "image", "data")


class Folder:
    """All files below a folder, as paths relative to it with `/`.

    Hidden folders are left out; links to folders are followed once.

    Args:
        root: The folder.
        file: The one annotation file the user named instead of the folder, relative to it.
        images: Where image files are looked for when not in `root`; names are then relative to it.
        check: How far image files are looked at; with `none` they need not be there.
    """

    def __init__(
        self, root: Path, *, file: str | None = None, images: Path | None = None, check: Check = "headers"
    ) -> None:
        self.root = root
        self.file = file
        self.check: Check = check
        self.image_root = root if images is None else images
        self._known_places: dict[tuple[str, str | None], list[str]] = {}

    @classmethod
    def at(cls, path: Path, *, images: Path | None = None, check: Check = "headers") -> "Folder":
        """Open a folder, or the folder that the annotation file at `path` belongs to.

        Raises:
            UsageError: If there is nothing at `path`, or `images` is no folder.
        """
        if images is not None and not images.is_dir():
            raise UsageError(f"images={str(images)!r} is no folder", "give the folder the image files are in")
        if path.is_dir():
            return cls(path, images=images, check=check)
        if not path.is_file():
            raise UsageError(f"there is no data set at {path}", "give a folder, or an annotation file in one")
        root = path.parent
        if root.name.lower() in _ANNOTATION_FOLDERS and root.parent != root:
            root = root.parent
        return cls(root, file=path.relative_to(root).as_posix(), images=images, check=check)

    @cached_property
    def files(self) -> dict[str, None]:
        """The files in `root`, sorted, as an ordered set."""
        return dict.fromkeys(_listing(self.root))

    @cached_property
    def images(self) -> dict[str, None]:
        """The image files, relative to `image_root`, sorted, as an ordered set."""
        files = self.files if self.image_root == self.root else _listing(self.image_root)
        return dict.fromkeys(name for name in files if posixpath.splitext(name)[1].lower() in SUFFIXES)

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        return _grouped(self.images, posixpath.basename)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(self.images, stem_of)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Return the files that end so (lower case, with the dot)."""
        return [name for name in self.files if posixpath.splitext(name)[1].lower() in suffixes]

    def in_words(self) -> str:
        """Say what is there: how many files of which suffixes."""
        counts = Counter(posixpath.splitext(name)[1].lower() or "no suffix" for name in self.files)
        return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(8)) or "it is empty"

    def path(self, name: str) -> Path:
        """Return where a file relative to `root` lies."""
        return self.root / name

    def image_named(self, name: str, *, near: str, split: str | None = None) -> str | None:
        """Find the image an annotation names: beside the annotation file, in the usual places, then anywhere.

        A path that leaves the folder is not followed, except an absolute one in the very file the user named.

        Args:
            name: The name as given, with or without folders.
            near: The folder of the annotation file, relative to `root`.
            split: The split the annotation belongs to; folders of that name are looked in.

        Returns:
            Its path relative to `image_root` (or absolute); `None` if there is no such file, or several.
        """
        name = name.strip().replace("\\", "/")
        if _is_absolute(name):
            name = self._inside(name)
        if _is_absolute(name):
            if self.file is not None and (self.check == "none" or Path(name).is_file()):
                return name
            name = posixpath.basename(name)
        elif clean_name(name, near=near) is None:
            return None
        if self.check == "none":
            return clean_name(name) or clean_name(name, near=near)
        for place in self._places(near, split):
            candidate = posixpath.normpath(posixpath.join(place, name))
            if candidate in self.images:
                return candidate
        matches = [
            match
            for match in self._by_base.get(posixpath.basename(name), [])
            if f"/{match}".endswith(f"/{name}")
        ]
        return _only(matches) or _only([match for match in matches if split and split_of(match) == split])

    def fault_of(self, name: str, *, near: str) -> str:
        """Return which problem it is that `image_named` finds nothing: it is missing, or its path is outside."""
        name = name.strip().replace("\\", "/")
        if _is_absolute(name):
            name = self._inside(name)
        outside = _is_absolute(name) or clean_name(name, near=near) is None
        return "image-path-outside" if outside else "image-missing"

    def _inside(self, name: str) -> str:
        """Make an absolute path into the folder relative."""
        top = self.image_root.resolve().as_posix() + "/"
        return name[len(top) :] if name.startswith(top) else name

    def _places(self, near: str, split: str | None) -> list[str]:
        if (near, split) not in self._known_places:
            places = [near, "", *_IMAGE_FOLDERS, *(posixpath.join(near, place) for place in _IMAGE_FOLDERS)]
            if split:
                places += [posixpath.join(place, split) for place in ("", *_IMAGE_FOLDERS)]
            folders = {""}
            for name in self.images:
                folders.update(_parents(name))
            self._known_places[near, split] = [place for place in dict.fromkeys(places) if place in folders]
        return self._known_places[near, split]

    def has_image_with_stem(self, stem: str) -> bool:
        """Whether there is an image of this name without suffix."""
        return stem in self._by_stem

    def image_with_stem(self, stem: str, *, near: str) -> str | None:
        """Find the image of this name without suffix: in `near`, then as the only one anywhere."""
        matches = self._by_stem.get(stem, [])
        beside = [match for match in matches if posixpath.dirname(match) == near]
        return _only(beside) or _only(matches)


def _listing(root: Path) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        inside = Path(place).relative_to(root).as_posix()
        prefix = "" if inside == "." else inside + "/"
        found += [prefix + file for file in files if not file.startswith(".")]
    return sorted(found)


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _only(matches: list[str]) -> str | None:
    return matches[0] if len(matches) == 1 else None


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or re.match(r"[A-Za-z]:/", name) is not None


def clean_name(name: str, *, near: str = "") -> str | None:
    """Normalise a path that stands in an annotation file in folder `near`; `None` when it leaves the data set."""
    name = name.strip().replace("\\", "/")
    path = posixpath.normpath(posixpath.join(near, name))
    outside = _is_absolute(name) or path == ".." or path.startswith("../") or "\0" in path
    return None if outside or path == "." else path


def stem_of(name: str) -> str:
    """Return a path's last part without its suffix."""
    return posixpath.splitext(posixpath.basename(name))[0]


def split_of(name: str) -> str | None:
    """Return the split that a path's words tell (`instances_val2017.json` -> `val`): the file's, then its folders'."""
    for part in reversed(posixpath.splitext(name)[0].split("/")):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None

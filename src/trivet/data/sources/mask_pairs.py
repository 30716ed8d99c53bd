"""Which mask belongs to which image: by folders of like names and files of the same stem, or by text lists."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trivet.data.images import SUFFIXES
from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import SPLIT_WORDS, Folder, split_of, stem_of
from trivet.errors import UsageError

_MASK = r"masks?|annots?|annotations?|ann|ann_dir|labels?|gts?|segmentations?|segmentationclass(?:aug|raw)?|ground_?truth|targets?"
_IMAGE = r"images?|imgs?|img_dir|jpegimages|photos?|pictures?|inputs?|rgb"
_MASK_FOLDER, _IMAGE_FOLDER = re.compile(_MASK), re.compile(_IMAGE)
_MASK_END = re.compile(r"(.+?)[_-]?(?:annots?|annotations?|masks?|labels?|gt)")
_MASK_START = re.compile(r"(?:masks?|annots?|annotations?|labels?|gt)[_-](.+)")
_IMAGE_END, _IMAGE_START = re.compile(rf"(.+?)[_-](?:{_IMAGE})"), re.compile(rf"(?:{_IMAGE})[_-](.+)")
_STEM_END = re.compile(r"(.+?)[_-](?:masks?|labels?|l|seg|segmentation|gt|annots?|annotation)", re.IGNORECASE)
_LIST_FOLDERS = ("", "ImageSets/Segmentation", "ImageSets", "splits", "lists")
_LISTS = ("train", "val", "valid", "test", "trainval")


@dataclass
class Pairs:
    """One split's images (relative to the image root) with their masks (relative to the root)."""

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, image: str, mask: str) -> None:
        """Add one pair."""
        self.images.append(image)
        self.masks.append(mask)


def find_pairs(folder: Folder, chosen: str | None = None) -> dict[str | None, Pairs]:
    """Return each split's pairs, from lists of pairs where there are some, else by folders.

    Args:
        folder: The data set's folder.
        chosen: The folder of masks to use, where there are several for the same images.

    Raises:
        UsageError: If there are several folders of masks for the same images and none is chosen.
    """
    lists = _lists(folder)
    of_pairs = {split: file for split, file in lists.items() if is_pair_list(folder, file)}
    if of_pairs:
        return {split: _listed_pairs(folder, file) for split, file in of_pairs.items()}
    pairs = _folder_pairs(folder, chosen)
    if set(pairs) == {None} and lists:
        return _by_lists(folder, pairs[None], lists)
    return pairs


def is_pair_list(folder: Folder, file: str) -> bool:
    """Whether a text file's first line names two image files, an image and its mask."""
    if not file.lower().endswith(".txt") or not folder.path(file).is_file():
        return False
    with folder.path(file).open(encoding="utf-8-sig", errors="replace") as stream:
        return len(_names_in(stream.readline(10_000))) == 2


def _names_in(line: str) -> list[str]:
    fields = [name.replace("\\", "/") for name in re.split(r"[\s,;]+", line.strip()) if name]
    return fields if all(posixpath.splitext(name)[1].lower() in SUFFIXES for name in fields) else []


def _lists(folder: Folder) -> dict[str | None, str]:
    if folder.file is not None:
        return {split_of(folder.file): folder.file} if folder.file.lower().endswith(".txt") else {}
    for place in _LIST_FOLDERS:
        files = {word: posixpath.join(place, f"{word}.txt") for word in _LISTS}
        found: dict[str | None, str] = {
            SPLIT_WORDS[word]: file for word, file in files.items() if file in folder.files
        }
        if found:
            return found
    return {}


def _listed_pairs(folder: Folder, file: str) -> Pairs:
    find_image, find_mask = _Finder(folder.images), _Finder(folder.files)
    pairs = Pairs()
    for number, line in enumerate(_lines(folder, file), start=1):
        names = _names_in(line)
        if len(names) != 2:
            if line.strip():
                detail = f"line {number}: {line.strip()[:80]!r} is no image and its mask"
                pairs.problems.append(problem("unreadable-row", file, detail))
            continue
        image, mask = find_image(names[0]), find_mask(names[1])
        if image is None:
            pairs.problems.append(problem("image-missing", file, f"line {number}: {names[0]!r}"))
        elif mask is None:
            pairs.problems.append(problem("image-without-mask", file, f"line {number}: {names[1]!r}"))
        else:
            pairs.add(image, mask)
    return pairs


def _by_lists(folder: Folder, pairs: Pairs, lists: Mapping[str | None, str]) -> dict[str | None, Pairs]:
    """Divide pairs by lists of images, one name (with suffix or without) a line."""
    masks = {stem_of(image): (image, mask) for image, mask in zip(pairs.images, pairs.masks, strict=True)}
    divided: dict[str | None, Pairs] = {}
    for split, file in lists.items():
        part = divided[split] = Pairs()
        for number, line in enumerate(_lines(folder, file), start=1):
            if line.strip():
                name = line.strip().replace("\\", "/").split("/")[-1]
                pair = masks.get(stem_of(name), masks.get(name))
                if pair is None:
                    part.problems.append(problem("image-missing", file, f"line {number}: {line.strip()!r}"))
                else:
                    part.add(*pair)
    first = next(iter(divided.values()))
    first.problems += pairs.problems
    return divided


def _lines(folder: Folder, file: str) -> list[str]:
    return folder.path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()


class _Finder:
    """Finds the file that a list names: the one that shares most of its path's end; suffixes may differ."""

    def __init__(self, files: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for file in files:
            if posixpath.splitext(file)[1].lower() in SUFFIXES:
                self._by_stem[stem_of(file)].append(file)

    def __call__(self, name: str) -> str | None:
        wanted = name.split("/")

        def shared(file: str) -> tuple[int, bool]:
            folders = 0
            for one, other in zip(reversed(file.split("/")[:-1]), reversed(wanted[:-1]), strict=False):
                if one != other:
                    break
                folders += 1
            return folders, file.endswith(wanted[-1])

        ranked = sorted(self._by_stem.get(stem_of(name), []), key=shared, reverse=True)
        if not ranked or (len(ranked) > 1 and shared(ranked[0]) == shared(ranked[1])):
            return None
        return ranked[0]


def _folder_pairs(folder: Folder, chosen: str | None) -> dict[str | None, Pairs]:
    images, masks = _folders(folder.images, of_masks=False), _folders(folder.files, of_masks=True)
    if chosen is not None:
        masks = {place: key for place, key in masks.items() if f"/{chosen.strip('/')}/" in f"/{place}/"}
        if not masks:
            raise UsageError(f"there is no folder {chosen!r} with masks in {folder.root}")
    pairs: dict[str | None, Pairs] = {}
    image_files, mask_files = _by_folder(folder.images), _by_folder(folder.files)
    for key in sorted(set(images.values()) & set(masks.values())):
        image_stems = {
            stem_of(name): name for place in images if images[place] == key for name in image_files[place]
        }
        matching = {}
        for place in masks:
            if masks[place] == key:
                found = _matched(image_stems, mask_files[place])
                if any(image is not None for image in found.values()):
                    matching[place] = found
        if len(matching) > 1:
            raise UsageError(
                f"{folder.root} holds several folders of masks for the same images: {', '.join(matching)}",
                f"choose one: fit --set data.labels=, audit --labels, or labels= in Python ({' or '.join(repr(place) for place in matching)})",
            )
        for found in matching.values():
            _add(pairs.setdefault(split_of("/".join((*key, "x"))), Pairs()), image_stems, found)
    return pairs


def _matched(image_stems: Mapping[str, str], masks: Iterable[str]) -> dict[str, str | None]:
    """Return mask -> the stem of its image, which is its own or it without an ending such as `_mask`."""
    found: dict[str, str | None] = {}
    for mask in masks:
        stem = stem_of(mask)
        ending = _STEM_END.fullmatch(stem)
        shorter = ending.group(1) if ending else None
        found[mask] = stem if stem in image_stems else shorter if shorter in image_stems else None
    return found


def _add(pairs: Pairs, image_stems: Mapping[str, str], found: Mapping[str, str | None]) -> None:
    mask_of = {stem: mask for mask, stem in found.items() if stem is not None}
    for stem, image in image_stems.items():
        if stem in mask_of:
            pairs.add(image, mask_of[stem])
        else:
            pairs.problems.append(problem("image-without-mask", image, "no mask has its name"))
    for mask, own in found.items():
        if own is None:
            pairs.problems.append(problem("mask-without-image", mask, "there is no image of its name"))


def _by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if posixpath.splitext(file)[1].lower() in SUFFIXES:
            places[posixpath.dirname(file)].append(file)
    return places


def _folders(files: Iterable[str], *, of_masks: bool) -> dict[str, tuple[str, ...]]:
    """Return the folders of images, or of masks, each with what is left of its path without the words for that."""
    kept = {}
    for place in _by_folder(files):
        parts = [_reduced(part.lower()) for part in place.split("/") if part]
        if any(is_mask for _, is_mask in parts) == of_masks:
            kept[place] = tuple(rest for rest, _ in parts if rest)
    return kept


def _reduced(part: str) -> tuple[str, bool]:
    """Return a folder's name without the word for masks or images, and whether it was one for masks."""
    if _MASK_FOLDER.fullmatch(part):
        return "", True
    if _IMAGE_FOLDER.fullmatch(part):
        return "", False
    if match := _MASK_END.fullmatch(part):
        return match.group(1), True
    if match := _MASK_START.fullmatch(part):
        return (match.group(1) if match.group(1) in SPLIT_WORDS else ""), True
    if match := _IMAGE_END.fullmatch(part) or _IMAGE_START.fullmatch(part):
        return match.group(1), False
    return part, False

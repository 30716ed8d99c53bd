"""Dividing a data set where its files do not: stratified, by groups, reproducible."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trivet.data.dataset import Dataset, Splits
from trivet.data.mask_check import label_counts
from trivet.errors import DataError, UsageError

Groups = str | Callable[[str], str]
"""What puts images into groups by their names: a function, or a regular expression (its first group, or its match)."""


def divide(
    dataset: Dataset, shares: Sequence[float], *, seed: int, groups: Groups | None = None
) -> np.ndarray:
    """Assign every image to a part, so that each part holds its share of every class.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, algorithm 1) over groups of images: the
    rarest class first, each group to the part that lacks this class most. Images without objects are a
    class of their own.

    Args:
        dataset: What to divide.
        shares: The parts' shares, summing to 1.
        seed: Of the order among equals.
        groups: Images of one group stay together; without it every image is its own.

    Returns:
        int64 `[n]`, the part each image belongs to.

    Raises:
        UsageError: If there are fewer groups than parts, or `groups` is not a regular expression.
    """
    group = _group_index(dataset, groups)
    presence = _presence(dataset)
    counts = np.zeros((group.max(initial=-1) + 1, presence.shape[1]), np.int64)
    np.add.at(counts, group, presence)
    if len(counts) < len(shares):
        raise UsageError(
            f"{len(dataset)} images in {len(counts)} groups cannot be divided into {len(shares)} parts",
            "give more images, smaller groups, or the splits themselves",
        )
    images = np.bincount(group, minlength=len(counts))
    return _stratified(counts, images, np.asarray(shares, np.float64), np.random.default_rng(seed))[group]


def named_splits(
    given: Splits,
    by_name: Mapping[str | None, Dataset],
    *,
    val_share: float | None,
    seed: int,
    groups: Groups | None,
) -> Splits:
    """Sort what was read into train, val and test, and make the validation split when none is given.

    Args:
        given: The format, class map and notes; its splits are not looked at.
        by_name: What was read, by the name its files tell, if any.
        val_share: The share of the training images that validates when no validation split is given; `None` takes
            one in five, at most 5,000.
        seed: Of the division.
        groups: See `divide`.

    Raises:
        UsageError: If there are several splits, none of them for training.
        DataError: If the training split has no image.
    """
    splits = dict(by_name)
    made: list[str] = []
    notes = list(given.notes)
    for other in ("trainval", None):
        dataset = splits.pop(other, None)
        if dataset is not None and "train" in splits:
            notes.append(
                f"{len(dataset):,} images of {other or 'no split'} were left out, as there is a train split"
            )
        elif dataset is not None:
            splits["train"] = dataset
    if len(splits) == 1 and "train" not in splits:
        name, dataset = splits.popitem()
        made.append(f"the only split, {name}, was taken as train")
        splits["train"] = dataset
    if "train" not in splits:
        raise UsageError(
            f"the data set has no training split, only: {', '.join(map(str, splits))}",
            "name one train, or give the annotation file of one split as the path",
        )
    train, val = replace(splits["train"], split="train"), splits.get("val")
    if not len(train):
        faults = "".join(f"\n  {found}" for found in train.problems[:5])
        raise DataError(
            f"{train.root}: no image of the training split can be used{faults}", "mend the data set"
        )
    share = min(0.2, 5000 / max(len(train), 1)) if val_share is None else val_share
    if val is None and share > 0:
        train, val, words = _with_val(train, share, seed, groups)
        made.append(words)
    return replace(
        given, train=train, val=val, test=splits.get("test"), made="; ".join(made) or None, notes=tuple(notes)
    )


def _with_val(
    dataset: Dataset, share: float, seed: int, groups: Groups | None
) -> tuple[Dataset, Dataset, str]:
    part = divide(dataset, [1 - share, share], seed=seed, groups=groups)
    train, val = (np.flatnonzero(part == number) for number in (0, 1))
    by = f", groups by {groups if isinstance(groups, str) else 'a function'} kept together" if groups else ""
    words = f"val: {len(val)} of {len(dataset)} training images, stratified by class{by}, seed {seed}"
    return dataset.take(train, split="train"), dataset.take(val, split="val"), words


def group_of(name: str, groups: Groups) -> str:
    """Return the group of an image by its name; a name that a regular expression does not match is its own."""
    if callable(groups):
        return str(groups(name))
    match = re.search(groups, name)
    if match is None:
        return name
    return match.group(1 if match.re.groups else 0) or ""


def _group_index(dataset: Dataset, groups: Groups | None) -> np.ndarray:
    if groups is None:
        return np.arange(len(dataset))
    if isinstance(groups, str):
        try:
            re.compile(groups)
        except re.error as fault:
            raise UsageError(f"groups={groups!r} is no regular expression: {fault}") from fault
    numbers: dict[str, int] = {}
    keys = (group_of(dataset.name(i), groups) for i in range(len(dataset)))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _presence(dataset: Dataset) -> np.ndarray:
    """Return bool `[n, classes + 1]`: which classes an image shows; the last column is none at all."""
    truth = dataset.truth
    presence = np.zeros((len(truth), len(dataset.labels) + 1), bool)
    presence[truth.image_index(), truth.labels] = True
    if dataset.class_labels is not None:
        presence[np.arange(len(truth)), dataset.class_labels] = True
    if dataset.masks is not None:
        for image in range(len(truth)):
            shown = label_counts(dataset.masks[image])[: len(dataset.labels)]
            presence[image, : len(dataset.labels)] = shown > 0
    presence[:, -1] = ~presence.any(axis=1)
    return presence


def _stratified(
    counts: np.ndarray, images: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    part = np.full(len(counts), -1)
    wanted = shares[:, None] * counts.sum(axis=0)  # (parts, classes): images of each class still lacking
    room = shares * images.sum()
    left = (counts > 0).sum(axis=0)
    shuffled = rng.permutation(len(counts))
    order = shuffled[np.argsort(-images[shuffled], kind="stable")]  # what is large is placed first
    while left.any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        for index in order[(counts[order, rarest] > 0) & (part[order] < 0)]:
            best = int(np.lexsort((room, wanted[:, rarest]))[-1])
            part[index] = best
            wanted[best] -= counts[index]
            room[best] -= images[index]
            left -= counts[index] > 0
    return part

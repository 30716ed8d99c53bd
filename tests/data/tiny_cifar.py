"""CIFAR of a few random images, in each of its layouts."""

import hashlib
import json
import pickle

import numpy as np
from PIL import Image

from trivet.data.dataset import Dataset
from trivet.data.sources import read_dataset

CLASSES = ("cat", "dog", "owl")
TILE, ROWS, COLUMNS = 8, 2, 5


def pixels(count, side=TILE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def write_mosaics(folder, *, counts=None, **changes):
    """Write mosaics of 8 x 8 tiles; returns the images of each split."""
    counts = counts or {"train": 18, "test": 10}
    images = {word: pixels(count, seed=number) for number, (word, count) in enumerate(counts.items())}
    splits = {}
    for word, tiles in images.items():
        per_file = ROWS * COLUMNS
        files = []
        for start in range(0, len(tiles), per_file):
            grid = np.zeros((per_file, TILE, TILE, 3), np.uint8)
            part = tiles[start : start + per_file]
            grid[: len(part)] = part
            mosaic = grid.reshape(ROWS, COLUMNS, TILE, TILE, 3).swapaxes(1, 2)
            files.append(f"{word}_{len(files):02}.webp")
            Image.fromarray(mosaic.reshape(ROWS * TILE, COLUMNS * TILE, 3)).save(
                folder / files[-1], lossless=True
            )
        np.save(folder / f"{word}_labels.npy", (np.arange(len(tiles)) % 3).astype(np.uint8))
        (folder / f"{word}_names.txt").write_text("".join(f"{word[0]}{i}.png\n" for i in range(len(tiles))))
        splits[word] = {
            "n": len(tiles),
            "files": files,
            "labels": f"{word}_labels.npy",
            "names": f"{word}_names.txt",
            "sha256_pixels": hashlib.sha256(tiles.tobytes()).hexdigest(),
        }
    meta = {"classes": CLASSES, "tile": TILE, "rows": ROWS, "cols": COLUMNS, "splits": splits, **changes}
    (folder / "meta.json").write_text(json.dumps(meta))
    return images


def write_pickles(folder, *, per_batch=2):
    """Write torchvision's CIFAR-10 folder; returns the training images."""
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    _dump(place / "batches.meta", {b"label_names": [name.encode() for name in CLASSES]})
    images = pixels(per_batch * 6, side=32)
    for number in range(6):
        part = images[number * per_batch : (number + 1) * per_batch]
        batch = {
            b"data": part.transpose(0, 3, 1, 2).reshape(per_batch, -1),
            b"labels": [(number + i) % 3 for i in range(per_batch)],
            b"filenames": [f"{number}_{i}.png".encode() for i in range(per_batch)],
        }
        _dump(place / (f"data_batch_{number + 1}" if number < 5 else "test_batch"), batch)
    return images[: per_batch * 5]


def _dump(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2))


def tiny_dataset(folder, *, count=18) -> Dataset:
    """Return a data set of small pictures with a class each."""
    write_mosaics(folder, counts={"train": count})
    return read_dataset(folder, val_share=0.0).train

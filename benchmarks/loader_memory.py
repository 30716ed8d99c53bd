"""Whether memory grows with workers or epochs: proportional set sizes (PSS) while a data set is read.

A COCO file of many images is made on the spot; all names are hard links to one small picture. PSS shares a page
among the processes that map it, so the sum over all processes is what the machine really spends (Linux).

    python benchmarks/loader_memory.py [--images 5000] [--boxes-per-image 10] [--workers 0 2 4] [--epochs 3]
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import load_annotations
import torch
from PIL import Image

from trivet.data.dataset import Dataset
from trivet.data.sources import read_dataset


def pss_mb(pid: int) -> float:
    """Return a process's proportional set size in megabytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel tells no PSS of process {pid}")


def make_dataset(folder: Path, images: int, boxes_per_image: int) -> Dataset:
    path = load_annotations.make_coco(folder, images, boxes_per_image)
    picture = folder / "picture.jpg"
    Image.new("RGB", (load_annotations.WIDTH, load_annotations.HEIGHT), "gray").save(picture)
    for i in range(images):
        os.link(picture, folder / f"{i:08d}.jpg")
    return read_dataset(path, val_share=0.0).train


def measure(dataset: Dataset, workers: int, epochs: int) -> None:
    options = {"persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=workers, shuffle=True, **options
    )
    for epoch in range(epochs):
        start, boxes = time.perf_counter(), 0
        for sample in loader:
            boxes += len(sample.labels)
        children = [pss_mb(child.pid) for child in multiprocessing.active_children()]
        each = " + ".join(f"{size:.0f}" for size in children) or "none"
        total = pss_mb(os.getpid()) + sum(children)
        seconds = time.perf_counter() - start
        print(
            f"workers {workers}  epoch {epoch}  total PSS {total:7.1f} MB  workers {each} MB  {boxes:,} boxes in {seconds:.1f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--boxes-per-image", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), options.images, options.boxes_per_image)
        print(
            f"{len(dataset):,} images, {len(dataset.truth.labels):,} boxes, before: {pss_mb(os.getpid()):.1f} MB"
        )
        for workers in options.workers:
            measure(dataset, workers, options.epochs)


if __name__ == "__main__":
    main()

"""Images a second from files to training batches: decode, augment, batch.

Command:  OMP_NUM_THREADS=1 python benchmarks/loader_speed.py DATA [--size 512] [--batch 8] [--workers 0 2]
Prints a row for each augmentation and number of workers: images a second, after one epoch of warming up.

Result, 2026-11-22, 2 cores (shared with other work), Python 3.11, torch 2.14, size 512, batch 8:
RESULTS
"""

import argparse
import time

from trivet.data.batching import train_loader
from trivet.data.mix import Mix
from trivet.data.sources import read_dataset

KINDS = {
    "letterbox": {"augmentation": "none"},
    "light": {"augmentation": "light"},
    "medium": {"augmentation": "medium"},
    "strong": {"augmentation": "strong"},
    "strong, mosaic 0.5, mixup 0.1": {"augmentation": "strong", "mix": Mix(0.5, 0.1)},
}


def images_per_second(loader, *, seconds=4.0):
    for _ in loader.epoch(0):
        pass
    images, number, began = 0, 1, time.perf_counter()
    while time.perf_counter() - began < seconds:
        images += sum(len(batch) for batch in loader.epoch(number))
        number += 1
    return images / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    given = parser.parse_args()
    train = read_dataset(given.data).train
    print(f"{given.data}: {len(train)} images, size {given.size}, batch {given.batch}")
    for name, kind in KINDS.items():
        rates = []
        for workers in given.workers:
            loader = train_loader(
                train, size_hw=(given.size, given.size), batch=given.batch, workers=workers, **kind
            )
            rates.append(f"{workers} workers {images_per_second(loader):6.0f} images/s")
        print(f"{name:32s}", "   ".join(rates))


if __name__ == "__main__":
    main()

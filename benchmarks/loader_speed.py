"""Images a second from files to training batches: decode, augment, batch.

Command:  OMP_NUM_THREADS=1 python benchmarks/loader_speed.py DATA [--size 512] [--batch 8] [--workers 0 2]
Prints, for each augmentation and number of workers, images a second after one epoch of warming up; "a core" is
by processor time, which other work on the machine changes little.

Results, 2026-11-22, 2 cores at a load of 6 to 8 from other work (so only "a core" is worth comparing),
Python 3.11, torch 2.14, size 512, batch 8:

                                bccd (205 JPEG, 640 x 480)   coco128 (128 JPEG, about 640 x 480)
letterbox                       251 a core                   189 a core
light                           172                          140
medium                          182                          135
strong                          196                          139
strong, mosaic 0.5, mixup 0.1   101                           66
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


def rates(loader, *, seconds=4.0):
    """Images a second of waiting, and images a second of this process' processor time."""
    for _ in loader.epoch(0):
        pass
    images, number, began, used = 0, 1, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        images += sum(len(batch) for batch in loader.epoch(number))
        number += 1
    return images / (time.perf_counter() - began), images / (time.process_time() - used)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--format")
    parser.add_argument("--labels")
    given = parser.parse_args()
    train = read_dataset(given.data, format=given.format, labels=given.labels).train
    print(f"{given.data}: {len(train)} images, size {given.size}, batch {given.batch}")
    for name, kind in KINDS.items():
        shown = []
        for workers in given.workers:
            loader = train_loader(
                train, size_hw=(given.size, given.size), batch=given.batch, workers=workers, **kind
            )
            by_clock, by_core = rates(loader)
            core = f" ({by_core:.0f} a core)" if workers == 0 else ""
            shown.append(f"{workers} workers {by_clock:.0f} images/s{core}")
        print(f"{name:30s} {', '.join(shown)}")


if __name__ == "__main__":
    main()

"""Images a second from files to training batches: decode, augment, batch; beside effdet's and ultralytics' loaders.

    OMP_NUM_THREADS=1 python benchmarks/loader_speed.py DATA [--size 512] [--batch 8] [--workers 0 2]

Every loader reads the same files at the same size and batch. Equal augmentation, in three groups:
- geometry: a random zoom and crop, and mirroring (all that effdet's loader does);
- geometry and colour: the same with changes of colour (ultralytics' without mosaic: an affine warp, HSV, mirroring;
  Trivet's `medium`: zoom, crop, mirroring, gamma, brightness, contrast, hue, saturation, at times grey, blur or noise);
- with mosaic: every sample is made of four images first.
ultralytics keeps the last 8 batches of images decoded, so it decodes one image for a mosaic, and of a data set not much
larger than that hardly any; `images kept` is Trivet with its cache of decoded pixels, which `trivet fit` uses by itself
where it pays. coco128 holds two formats: give `--format coco`. Measuring one data set takes 2 to 3 minutes.
Prints images a second after one epoch of warming up; with 0 workers also by processor time, which other work on the
machine changes little. effdet is in the `dev` extra; ultralytics (AGPL) is no part of this project and is measured
where it happens to be installed, as in a virtual environment of its own. Results with date and machine are in
`loader_speed.md`.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from trivet.data.batching import train_loader
from trivet.data.cache_images import cache_images
from trivet.data.mix import Mix
from trivet.data.place import place, turn
from trivet.data.sources import read_dataset
from trivet.data.view import draw_view
from trivet.structures import Sample

Epoch = Callable[[int], Iterable[int]]
"""Makes an epoch's batches and yields how many images each has."""


@dataclass(frozen=True)
class Geometry:
    """Zoom, crop and mirroring of the default augmentation, without its colours."""

    size_hw: tuple[int, int]
    strength: float = 0.6

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:  # noqa: D102
        source, target = draw_view(sample, self.size_hw, rng, strength=self.strength)
        kept = {"min_visible": 0.3, "min_side": 1.0, "shrinking": "quick", "fill_rgb": (114, 114, 114)}
        sample = place(sample, size_hw=self.size_hw, source=source, target=target, **kept)
        return turn(sample, mirror=bool(rng.random() < 0.5))


def trivet_epochs(train, size: int, batch: int, workers: int, **kind) -> Epoch:
    loader = train_loader(train, size_hw=(size, size), batch=batch, workers=workers, **kind)
    return lambda number: (len(made) for made in loader.epoch(number))


def effdet_epochs(folder: Path, size: int, batch: int, workers: int) -> Epoch:
    from effdet.data import create_loader
    from effdet.data.dataset import DetectionDatset
    from effdet.data.parsers import CocoParserCfg, create_parser
    from effdet.data.transforms import transforms_coco_train

    parser = create_parser("coco", cfg=CocoParserCfg(ann_filename=str(folder / "coco.json")))
    data = DetectionDatset(folder / "images", parser=parser)
    # its prefetcher needs CUDA; all it does besides is to move and normalise a batch
    loader = create_loader(
        data,
        (3, size, size),
        batch,
        is_training=True,
        use_prefetcher=False,
        num_workers=workers,
        transform_fn=transforms_coco_train((size, size), use_prefetcher=True),
    )
    return lambda _: (len(images) for images, _ in loader)


def ultralytics_epochs(train, folder: Path, size: int, batch: int, workers: int, *, mosaic: float) -> Epoch:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.ERROR)
    names = dict(enumerate(train.labels.names))
    options = get_cfg(overrides={"mosaic": mosaic, "imgsz": size, "task": "detect"})
    data = YOLODataset(
        img_path=str(folder / "images"),
        imgsz=size,
        batch_size=batch,
        augment=True,
        hyp=options,
        rect=False,
        cache=None,
        data={"names": names, "nc": len(names), "channels": 3},
        task="detect",
    )
    loader = torch.utils.data.DataLoader(
        data,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=YOLODataset.collate_fn,
        persistent_workers=workers > 0,
    )
    return lambda _: (len(made["img"]) for made in loader)


def write_copies(train, folder: Path) -> None:
    """Write the training split as the peers read it: COCO json and YOLO txt, and links to the images."""
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    images, boxes = [], []
    for index in range(len(train)):
        sample, path = train[index], Path(train.root) / train.name(index)
        height, width = sample.image.shape[:2]
        (folder / "images" / path.name).symlink_to(path.resolve())
        images.append({"id": index, "file_name": path.name, "height": height, "width": width})
        lines = []
        for (x0, y0, x1, y1), label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            boxes.append(
                {
                    **{"id": len(boxes) + 1, "image_id": index, "category_id": label + 1},
                    **{"bbox": box, "area": box[2] * box[3], "iscrowd": 0},
                }
            )
            middle = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, box[2] / width, box[3] / height)
            lines.append(f"{label} " + " ".join(f"{value:.6f}" for value in middle))
        (folder / "labels" / f"{path.stem}.txt").write_text("\n".join(lines))
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(train.labels.names)]
    truth = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(truth))


def rates(epoch: Epoch, seconds: float) -> tuple[float, float]:
    """Images a second by the clock, and by this process' processor time."""
    sum(epoch(0))
    images, number, began, used = 0, 1, time.perf_counter(), time.process_time()
    # reading in workers takes no processor time here, and on a busy machine that takes long to add up
    while max(time.process_time() - used, (time.perf_counter() - began) / 2) < seconds:
        images += sum(epoch(number))
        number += 1
    return images / (time.perf_counter() - began), images / max(time.process_time() - used, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is measured")
    parser.add_argument("--images", type=int, default=0, help="use the first so many only; 0 uses all")
    parser.add_argument("--only", default="", help="measure only the loaders with this in their name")
    parser.add_argument("--format")
    parser.add_argument("--labels")
    given = parser.parse_args()
    cv2.setNumThreads(0)
    train = read_dataset(given.data, format=given.format, labels=given.labels).train
    if given.images:
        train = train.take(np.arange(min(given.images, len(train))))
    print(f"{given.data}: {len(train)} images, size {given.size}, batch {given.batch}")
    size, batch = given.size, given.batch
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_copies(train, folder)
        sides = {
            "geometry: trivet": lambda w: trivet_epochs(
                train, size, batch, w, augmentation=Geometry((size, size))
            ),
            "geometry: effdet": lambda w: effdet_epochs(folder, size, batch, w),
            "and colour: trivet, medium": lambda w: trivet_epochs(
                train, size, batch, w, augmentation="medium"
            ),
            "and colour: trivet, images kept": lambda w: trivet_epochs(
                cache_images(train, "yes", folder=folder / "cache"), size, batch, w, augmentation="medium"
            ),
            "and colour: ultralytics": lambda w: ultralytics_epochs(
                train, folder, size, batch, w, mosaic=0.0
            ),
            "and mosaic: trivet, medium": lambda w: trivet_epochs(
                train, size, batch, w, augmentation="medium", mix=Mix(1.0, 0.0)
            ),
            "and mosaic: trivet, images kept": lambda w: trivet_epochs(
                cache_images(train, "yes", folder=folder / "cache"),
                size,
                batch,
                w,
                augmentation="medium",
                mix=Mix(1.0, 0.0),
            ),
            "and mosaic: ultralytics": lambda w: ultralytics_epochs(
                train, folder, size, batch, w, mosaic=1.0
            ),
        }
        for name, make in sides.items():
            if given.only not in name:
                continue
            shown = []
            for workers in given.workers:
                try:
                    by_clock, by_core = rates(make(workers), given.seconds)
                except ImportError as fault:
                    shown = [f"not installed ({fault.name})"]
                    break
                core = f" ({by_core:.0f} a core)" if workers == 0 else ""
                shown.append(f"{workers} workers {by_clock:.0f} images/s{core}")
            print(f"{name:31s} {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()

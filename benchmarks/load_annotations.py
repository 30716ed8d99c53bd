"""Seconds and peak memory of reading 100,000 images with 1,000,000 boxes, for every format.

The files are made on the spot, images included only where a format needs their sizes (as headers of one pixel row).
Each format is read in a process of its own; the peak is that process's largest resident set, imports included.

    python benchmarks/load_annotations.py [--images 100000] [--boxes-per-image 10] [--format coco]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = [f"class{i}" for i in range(80)]
HEIGHT, WIDTH = 480, 640


def boxes_xywh(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    left_top = rng.uniform(0, 400, (count, 2))
    return np.concatenate([left_top, rng.uniform(5, 80, (count, 2))], axis=1).round(2)


def make_coco(folder: Path, images: int, per_image: int) -> Path:
    boxes = boxes_xywh(images * per_image).tolist()
    content = {
        "images": [
            {"id": i, "file_name": f"{i:08d}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(images)
        ],
        "annotations": [
            {
                "id": row,
                "image_id": row // per_image,
                "category_id": row % 80 + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0], box[1] + box[3]]],
            }
            for row, box in enumerate(boxes)
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return path


def make_csv(folder: Path, images: int, per_image: int) -> Path:
    boxes = boxes_xywh(images * per_image)
    rows = ["image,xmin,ymin,xmax,ymax,label,image_width,image_height"]
    rows += [
        f"{row // per_image:08d}.jpg,{x},{y},{x + w:.2f},{y + h:.2f},{CLASSES[row % 80]},{WIDTH},{HEIGHT}"
        for row, (x, y, w, h) in enumerate(boxes.tolist())
    ]
    path = folder / "train.csv"
    path.write_text("\n".join(rows))
    return path


def make_voc(folder: Path, images: int, per_image: int) -> Path:
    boxes = boxes_xywh(images * per_image).astype(int) + 1
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for i in range(images):
        objects = "".join(
            f"<object><name>{CLASSES[row % 80]}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for row, (x, y, w, h) in enumerate(boxes[i * per_image : (i + 1) * per_image].tolist())
        )
        text = f"<annotation><filename>{i:08d}.jpg</filename>{size}{objects}</annotation>"
        (folder / f"{i:08d}.xml").write_text(text)
    return folder


def make_yolo(folder: Path, images: int, per_image: int) -> Path:
    from PIL import Image

    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "one.png")
    picture = (folder / "one.png").read_bytes()
    (folder / "one.png").unlink()
    boxes = boxes_xywh(images * per_image)
    boxes[:, :2] += boxes[:, 2:] / 2
    boxes /= [WIDTH, HEIGHT, WIDTH, HEIGHT]
    for i in range(images):
        (folder / f"{i:08d}.png").write_bytes(picture)
        rows = [
            f"{row % 80} {x:.6f} {y:.6f} {w:.6f} {h:.6f}"
            for row, (x, y, w, h) in enumerate(boxes[i * per_image : (i + 1) * per_image].tolist())
        ]
        (folder / f"{i:08d}.txt").write_text("\n".join(rows))
    return folder


MAKERS = {"coco": make_coco, "csv": make_csv, "voc": make_voc, "yolo": make_yolo}
CHECK = {"coco": "none", "csv": "none", "voc": "none", "yolo": "headers"}


def peak_mb() -> int:
    """Return this process's largest resident set so far (Linux; `getrusage` would inherit the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def measure(path: str, format: str) -> dict[str, float]:
    """Read in this process; return seconds and peak megabytes."""
    from trivet.data.sources import read_dataset

    before = peak_mb()
    start = time.perf_counter()
    splits = read_dataset(path, format=format, check=CHECK[format], val_share=0)
    return {
        "images": len(splits.train),
        "boxes": len(splits.train.truth.labels),
        "problems": len(splits.problems),
        "seconds": round(time.perf_counter() - start, 2),
        "imports_mb": before,
        "peak_mb": peak_mb(),
    }


def measure_apart(path: Path, format: str) -> dict[str, float]:
    """Read in a fresh process; return what `measure` returns."""
    command = [sys.executable, __file__, "--measure", str(path), "--format", format]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--boxes-per-image", type=int, default=10)
    parser.add_argument("--format", choices=sorted(MAKERS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.format)))
        return
    for format in [options.format] if options.format else MAKERS:
        with tempfile.TemporaryDirectory() as folder:
            path = MAKERS[format](Path(folder), options.images, options.boxes_per_image)
            print(f"{format:5}", measure_apart(path, format), flush=True)


if __name__ == "__main__":
    main()

"""Time of the dense CRF on a photograph, and how far the lattice is from the exact kernel.

Run by hand: `python benchmarks/dense_crf.py DATA [preset ...]`, DATA being the folder of data sets (its
`trash_competition_sample` is used). Time: 512 x 512 pixels, 12 classes. Accuracy: 80 x 80 crops of the same
photograph, against every pair of pixels.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from trivet.geometry.dense_crf import CRF_PRESETS, dense_crf
from trivet.train.allocator import keep_freed_memory

CLASSES = 12


def make_case(path: Path) -> tuple[Tensor, Tensor]:
    with Image.open(path) as picture:
        image = torch.from_numpy(np.array(picture.convert("RGB").resize((512, 512))))
    torch.manual_seed(0)
    coarse = torch.randn(1, CLASSES, 16, 16) * 3
    logits = F.interpolate(coarse, size=(512, 512), mode="bilinear", align_corners=False)
    return logits[0].softmax(dim=0), image


def crops(probabilities: Tensor, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    places = [slice(start, start + 80) for start in (60, 220, 380)]
    return [(probabilities[:, at, at].contiguous(), image[at, at].contiguous()) for at in places]


def main(data: Path, presets: list[str]) -> None:
    keep_freed_memory()  # as the verbs do
    path = sorted((data / "trash_competition_sample" / "image").glob("*.jpg"))[3]
    probabilities, image = make_case(path)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {path.name}")
    print("| preset | iterations | seconds | processor seconds | mean difference | same label |")
    for name in presets or list(CRF_PRESETS):
        wall, processor = time.perf_counter(), time.process_time()
        dense_crf(probabilities, image, name)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        differences, same = [], []
        for crop in crops(probabilities, image):
            exact, near = (dense_crf(*crop, name, method=method) for method in ("exact", "lattice"))
            differences.append(float((exact - near).abs().mean()) * CLASSES / 2)  # total variation a pixel
            same.append(float((exact.argmax(dim=0) == near.argmax(dim=0)).float().mean()))
        print(
            f"| {name} | {CRF_PRESETS[name].iterations} | {wall:.2f} | {processor:.2f} "
            f"| {np.mean(differences):.4f} | {np.mean(same):.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

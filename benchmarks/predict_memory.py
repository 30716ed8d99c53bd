"""Memory of `trivet predict` over many files: resident set after every tenth of them.

    python benchmarks/predict_memory.py RUN_OR_ONNX IMAGE_FOLDER [--files 10000] [--draw]

The folder's images are linked until there are so many files. With `--draw` every one is drawn too. All results are kept,
as for `--json`; what grows is that list. Results with date and machine are kept in `predict_memory.md`.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from trivet.recipe.predict import find_images
from trivet.recipe.predict_files import FilePrediction, predict_files
from trivet.train.allocator import keep_freed_memory


def resident() -> float:
    """Return MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("run", type=Path)
    options.add_argument("folder", type=Path)
    options.add_argument("--files", type=int, default=10_000)
    options.add_argument("--draw", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        sources = find_images([given.folder])
        for number in range(given.files):
            source = sources[number % len(sources)].resolve()
            (folder / f"{number:06d}{source.suffix}").symlink_to(source)
        seen, begun = 0, time.perf_counter()

        def watch(image: FilePrediction) -> None:
            nonlocal seen
            del image
            seen += 1
            if seen == 100 or seen % (given.files // 10) == 0:
                rate = seen / (time.perf_counter() - begun)
                print(f"{seen:6d} files  {resident():7.1f} MiB  {rate:6.1f} files/s", flush=True)

        found = predict_files(given.run, [folder], out=folder / "drawn" if given.draw else None, watch=watch)
        boxes = sum(len(image.found) for image in found.images if hasattr(image.found, "__len__"))
        print(f"{len(found.images)} files, {boxes} boxes, resident at the end {resident():.1f} MiB")


if __name__ == "__main__":
    main()

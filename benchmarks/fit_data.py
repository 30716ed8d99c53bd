"""Train on real data sets as a user would, and score what no run has seen.

    python benchmarks/fit_data.py bccd DATA_FOLDER [--minutes 45] [--out runs]
    python benchmarks/fit_data.py coco128 DATA_FOLDER [--minutes 60] [--out runs]

DATA_FOLDER holds `bccd` (Pascal VOC, official splits) and `coco128` (YOLO txt). `bccd` asks for the test mAP50 and mAP of
`trivet fit --minutes 45` with everything chosen automatically; `coco128` asks how far its 128 training images are
overfitted (last weights, training split). Results with date and machine are kept in `fit_data.md`.
"""

import argparse
import time
from pathlib import Path

from trivet.recipe.fit import fit
from trivet.recipe.machine import environment
from trivet.recipe.score import score

CASES = {
    "bccd": ("bccd", {}, {"split": "test"}),
    "coco128": (
        "coco128/classes_object_detection.yaml",
        {
            "data.labels": "labels_det",
            "augment.strength": "light",
            "augment.mosaic": 0.0,
            "train.weight_decay": 0.0,
        },
        {"split": "train", "last": True},
    ),
}
MINUTES = {"bccd": 45.0, "coco128": 60.0}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("case", choices=CASES)
    options.add_argument("folder", type=Path)
    options.add_argument("--minutes", type=float)
    options.add_argument("--out", type=Path, default=Path("runs"))
    given = options.parse_args()
    path, values, scored = CASES[given.case]
    begun = time.monotonic()
    minutes = given.minutes or MINUTES[given.case]
    result = fit(given.folder / path, {**values, "train.minutes": minutes}, out=given.out, name=given.case)
    spent = (time.monotonic() - begun) / 60
    found = score(result.folder.path, **scored)
    print({name: environment()[name] for name in ("processor", "cores", "torch")})
    print(f"{given.case}: {spent:.1f} minutes from start to report, budget {minutes:g}")
    print(f"{scored['split']} split, {found.images} images: mAP50 {found.map50:.4f}, mAP {found.map:.4f}")
    print(
        "95 % intervals",
        {name: tuple(round(v, 4) for v in edges) for name, edges in found.interval95.items()},
    )
    print("by size", {name: round(value, 3) for name, value in found.by_size.items()})
    print(
        "by class (AP50, AP)",
        {row.name: (round(row.ap50, 3), round(row.ap, 3)) for row in found.per_class[:10]},
    )


if __name__ == "__main__":
    main()

"""Train on real data sets as a user would, and score what no run has seen.

    python benchmarks/fit_data.py CASE DATA_FOLDER [--minutes M] [--out runs] [--set KEY=VALUE ...]

DATA_FOLDER holds `bccd` (Pascal VOC, official splits), `coco128` (YOLO txt), `camvid`, `trash_competition_sample` and
`cifar10`. The cases:

- bccd: test mAP50 and mAP of `trivet fit --minutes 45` with everything chosen automatically.
- coco128: how far its 128 training images are overfitted in 60 minutes (last weights, training split).
- camvid: test mIoU of `trivet fit --minutes 60` with everything chosen automatically.
- camvid-bifpn: the same with a BiFPN.
- camvid-deconvnet: DeconvNet at a quarter of its width, from scratch, at 240 x 320; camvid-deconvnet-undecoded leaves its
  decoder out of the optimizer, which is refused unless `train.leave_out_anyway` is set.
- trash: how far the 50 training images are overfitted (last weights, training split), and the 10 for validation.
- cifar10: test accuracy of the compact network (30 and 60 minutes).
- cifar10-regnet-bifpn, cifar10-regnet: RegNet with and without a BiFPN at the same budget.

Results with date and machine are kept in `fit_data.md`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from trivet.cli.options import parse_settings, show
from trivet.recipe.fit import fit
from trivet.recipe.machine import environment
from trivet.recipe.score import score
from trivet.report.text import score_text

DECONVNET = {
    "model.size_hw": (240, 320),
    "model.name": "deconvnet_vgg16_bn",
    "model.options": {"width": 0.25},
    "model.pretrained": False,
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], float]] = {
    "bccd": ("bccd", {}, {"split": "test"}, 45),
    "coco128": (
        "coco128/classes_object_detection.yaml",
        {
            "data.labels": "labels_det",
            "augment.strength": "none",
            "augment.orientation": "fixed",
            "augment.mosaic": 0.0,
            "model.size_hw": (320, 320),
            "train.weight_decay": 0.0,
        },
        {"split": "train", "last": True},
        60,
    ),
    "camvid": ("camvid", {}, {"split": "test"}, 60),
    "camvid-bifpn": ("camvid", {"model.name": "semantic_bifpn_lite0"}, {"split": "test"}, 60),
    "camvid-deconvnet": ("camvid", DECONVNET, {"split": "test"}, 60),
    "camvid-deconvnet-undecoded": (
        "camvid",
        DECONVNET | {"train.leave_out": ["neck", "head"], "train.leave_out_anyway": True},
        {"split": "test"},
        60,
    ),
    "trash": (
        "trash_competition_sample",
        {
            "task.kind": "segmentation",
            "augment.strength": "none",
            "augment.orientation": "fixed",
            "model.size_hw": (384, 384),
            "train.weight_decay": 0.0,
        },
        {"split": "train", "last": True},
        30,
    ),
    "cifar10": ("cifar10", {}, {"split": "test"}, 30),
    "cifar10-regnet-bifpn": ("cifar10", {"model.name": "regnet_bifpn"}, {"split": "test"}, 60),
    "cifar10-regnet": ("cifar10", {"model.name": "regnet_small"}, {"split": "test"}, 60),
}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("case", choices=CASES)
    options.add_argument("folder", type=Path)
    options.add_argument("--minutes", type=float)
    options.add_argument("--out", type=Path, default=Path("runs"))
    options.add_argument("--set", action="append", metavar="KEY=VALUE")
    given = options.parse_args()
    path, values, scored, minutes = CASES[given.case]
    begun = time.monotonic()
    budget = given.minutes or minutes
    values = {**values, "train.minutes": budget, **parse_settings(given.set)}
    result = fit(given.folder / path, values, out=given.out, name=given.case)
    spent = (time.monotonic() - begun) / 60
    found = score(result.folder.path, **scored)
    print({name: environment()[name] for name in ("processor", "cores", "torch")})
    print(
        f"{given.case}: {spent:.1f} minutes from start to report, budget {budget:g}; {scored['split']} split"
    )
    show(score_text(found, [row.name for row in found.per_class]))
    if scored["split"] == "train":
        print("validation split, best weights")
        show(score_text(result.scores, [row.name for row in result.scores.per_class]))


if __name__ == "__main__":
    main()

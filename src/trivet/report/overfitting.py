"""A score far higher on training than on validation images -> one sentence that says so and what to do first."""

from collections.abc import Collection

from trivet.doctor.finding import Finding
from trivet.errors import look_up
from trivet.evaluate.generalisation import GeneralisationGap

LARGE_GAP = {"accuracy": 0.15, "mIoU": 0.25, "mAP50": 0.25}
"""A gap below this is what good models have too: on few images of many objects also of a quarter."""
REMEDIES = {
    "crop_flip": "random crops and flips",
    "cutout": "Cutout",
    "regularised_optimizer": "weight decay with a OneCycle or cosine schedule",
    "label_smoothing": "label smoothing",
    "mix": "MixUp or CutMix",
    "ema": "averaged weights (EMA)",
}
"""Remedies in the order of the evidence on CIFAR: crops and flips halve a ResNet-18's error, Cutout takes
another sixth (DeVries and Taylor 2017, arXiv 1708.04552, table 1), mixing helps on top of label smoothing (Yun
et al. 2019, arXiv 1905.04899, table 5)."""
_MOST_NAMED = 3


def overfitting_sentence(gap: GeneralisationGap, on: Collection[str] = ()) -> str | None:
    """Say that a model has learnt its training images by heart, or return `None` if it has not.

    Args:
        gap: The scores on training and validation images.
        on: The keys of `REMEDIES` that were on in training and are therefore not proposed.

    Raises:
        UsageError: If a key of `on` is none of `REMEDIES`.
    """
    for name in on:
        look_up("remedy", name, REMEDIES)
    if not (gap.gap >= LARGE_GAP[gap.measure] and gap.interval95.low > 0):  # NaN says nothing either
        return None
    points, low, high = (100 * value for value in (gap.gap, *gap.interval95))
    left = [words for name, words in REMEDIES.items() if name not in on][:_MOST_NAMED]
    first = f"try {_in_order(left)}" if left else "what remains is more images or a smaller network"
    return (
        f"Train {gap.measure} {gap.train:.3f} is {points:.1f} points above validation {gap.measure} {gap.val:.3f} "
        f"(95% interval {low:.1f} to {high:.1f}): the training images are learnt by heart; {first}."
    )


def _in_order(words: list[str]) -> str:
    return ", then ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def overfitting_finding(gap: GeneralisationGap, on: Collection[str] = ()) -> Finding | None:
    """Return what `overfitting_sentence` says as a finding for the page, or `None`."""
    sentence = overfitting_sentence(gap, on)
    if sentence is None:
        return None
    fault, _, remedy = sentence.rpartition("; ")
    return Finding(
        "overfitting",
        "warning",
        fault,
        evidence={
            f"train {gap.measure}": gap.train,
            f"validation {gap.measure}": gap.val,
            "gap": gap.gap,
            "interval95": [gap.interval95.low, gap.interval95.high],
            "train images": gap.train_images,
            "validation images": gap.val_images,
        },
        cause="The network has room to remember its training images, and nothing keeps it from doing so.",
        remedy=f"{remedy[:1].upper()}{remedy[1:]}",
        verdict="confirmed",
    )

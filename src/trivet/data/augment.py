"""Random changes of training images; the only file that knows Albumentations.

An augmentation is called with a sample and a random generator and returns a new sample. All randomness comes
from that generator, so the same draw gives the same picture in any process.
"""

import copy
import inspect
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np
import torch

from trivet.data.colour import change_colours
from trivet.data.letterbox import letterbox
from trivet.data.mask_check import checked_mask
from trivet.data.place import cut_boxes, place, turn
from trivet.data.view import draw_view
from trivet.errors import UsageError, unknown_name
from trivet.structures import IGNORE_LABEL, Placement, Sample


@runtime_checkable
class Augmentation(Protocol):
    """Anything that makes a new sample from a sample and a random generator."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a new sample; all randomness comes from `rng`."""
        ...


OneAugmentation: TypeAlias = Augmentation | Callable[[Sample], Sample] | str | float | None
AugmentationLike: TypeAlias = OneAugmentation | Sequence[OneAugmentation]

STRENGTHS = {"none": 0.0, "light": 0.3, "medium": 0.6, "strong": 1.0}
ORIENTATIONS = {"fixed": (0.0, 0.0, 0.0), "upright": (0.5, 0.0, 0.0), "free": (0.5, 0.5, 0.5)}
"""Name -> probabilities of mirroring left-right, flipping up-down, swapping rows and columns."""


def build_augmentation(
    augmentation: AugmentationLike = "medium",
    *,
    size_hw: tuple[int, int],
    fill_rgb: tuple[int, int, int] = (114, 114, 114),
    orientation: str = "upright",
) -> Augmentation:
    """Make an augmentation whose results are exactly `size_hw` and whose boxes are all inside it.

    Args:
        augmentation: A strength by name (`none`, `light`, `medium`, `strong`) or from 0 to 1; an
            `albumentations.Compose`; any callable `Sample -> Sample`; an `Augmentation`; or a list of these, applied
            in order. `None` is `none`: letterboxing alone.
        size_hw: The result's size.
        fill_rgb: Colour of padding.
        orientation: What the default augmentation may turn: `upright` mirrors left-right; `free` also turns by
            quarters, for pictures without an up and down such as micrographs and aerial photographs; `fixed`
            does neither, for text, digits and signs.

    Raises:
        UsageError: If the name, strength, orientation or type is not one of these.
    """
    _check_orientation(orientation)
    if isinstance(augmentation, Sequence) and not isinstance(augmentation, str):
        *first, last = augmentation or [None]
        built = build_augmentation(last, size_hw=size_hw, fill_rgb=fill_rgb, orientation=orientation)
        return Chain((*(_adapted(step) for step in first), built))
    if isinstance(augmentation, (DefaultAugmentation, Letterboxed)):
        if augmentation.size_hw != size_hw:
            raise UsageError(
                f"an augmentation made for size_hw={augmentation.size_hw}, got size_hw={size_hw}",
                "make it for the size that training uses",
            )
        return augmentation
    if augmentation is None or isinstance(augmentation, (str, float, int)):
        strength = strength_of(augmentation)
        if strength == 0:
            return Letterboxed(None, size_hw, fill_rgb)
        return DefaultAugmentation(size_hw, strength=strength, fill_rgb=fill_rgb, orientation=orientation)
    return Letterboxed(_adapted(augmentation), size_hw, fill_rgb)


@dataclass(frozen=True)
class DefaultAugmentation:
    """The default for small data: zoom and crop that keep an object, turns, colour.

    Cropping comes before resizing and there is one resize, straight to the result's size.

    Args:
        size_hw: The result's size.
        strength: From above 0 (hardly any change) to 1.
        fill_rgb: Colour of padding.
        orientation: `fixed`, `upright` or `free`, see `build_augmentation`.
        min_visible: Share (0-1) of an object's box that must remain for it to stay an object.
        min_side: Shortest side, pixels of the result, of a box that stays.
    """

    size_hw: tuple[int, int]
    strength: float = STRENGTHS["medium"]
    fill_rgb: tuple[int, int, int] = (114, 114, 114)
    orientation: str = "upright"
    min_visible: float = 0.3
    min_side: float = 1.0
    _worse: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UsageError(f"an augmentation's strength is from 0 to 1, got {self.strength}")
        _check_orientation(self.orientation)
        object.__setattr__(self, "_worse", _worse(self.strength))

    def __reduce__(self) -> tuple[type, tuple]:
        # Made anew where it is unpickled, so that no worker imports Albumentations without `_albumentations`.
        given = (
            self.size_hw,
            self.strength,
            self.fill_rgb,
            self.orientation,
            self.min_visible,
            self.min_side,
        )
        return DefaultAugmentation, given

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a random variant of `sample`; at least one of its objects is wholly inside."""
        mirror, flip, transpose = (rng.random(3) < ORIENTATIONS[self.orientation]).tolist()
        size_hw = self.size_hw[::-1] if transpose else self.size_hw
        source, target = draw_view(sample, size_hw, rng, strength=self.strength)
        sample = place(
            sample,
            size_hw=size_hw,
            source=source,
            target=target,
            fill_rgb=self.fill_rgb,
            shrinking="quick",
            min_visible=self.min_visible,
            min_side=self.min_side,
        )
        sample = turn(sample, mirror=mirror, flip=flip, transpose=transpose)
        image = change_colours(sample.image, rng, strength=self.strength)
        if rng.random() < 0.25 * self.strength:
            _seed(self._worse, rng)
            image = self._worse(image=image)["image"]
        return replace(sample, image=image)


@dataclass(frozen=True)
class Letterboxed:
    """An augmentation of the user's own (or none), brought to one size with boxes that are all in order.

    Args:
        augmentation: What is applied first; `None` for nothing.
        size_hw: The result's size.
        fill_rgb: Colour of padding.
    """

    augmentation: Augmentation | None
    size_hw: tuple[int, int]
    fill_rgb: tuple[int, int, int] = (114, 114, 114)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the augmented sample, letterboxed unless it has the right size already."""
        if self.augmentation is not None:
            sample = checked_mask(sample, self.augmentation(sample, rng))
            sample = replace(sample, placement=Placement(sample.image.shape[:2]))
        return letterbox(sample, size_hw=self.size_hw, fill_rgb=self.fill_rgb)


@dataclass(frozen=True)
class Chain:
    """Augmentations one after the other.

    Args:
        steps: The augmentations, in order.
    """

    steps: tuple[Augmentation, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return what the last makes of what the others made."""
        for step in self.steps:
            sample = step(sample, rng)
        return sample


@dataclass(frozen=True)
class _Composed:
    """An `albumentations.Compose` fed with boxes our way, whatever box settings it came with."""

    compose: Any

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        boxes, keep = cut_boxes(sample.boxes_xyxy, (0, 0, width, height))
        given = {"image": sample.image, "bboxes": boxes[keep], "rows": np.flatnonzero(keep)}
        if sample.mask is not None:
            given["mask"] = sample.mask
        _seed(self.compose, rng)
        result = self.compose(**given)
        if not isinstance(result["image"], np.ndarray) or result["image"].dtype != np.uint8:
            raise UsageError(
                f"an augmentation returns uint8 images, got {getattr(result['image'], 'dtype', type(result['image']))}",
                "leave Normalize, ToFloat and ToTensorV2 out of the Compose: the model normalises its input",
            )
        rows = np.asarray(result["rows"], dtype=np.int64)
        return replace(
            sample,
            image=result["image"],
            boxes_xyxy=np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 4),
            labels=sample.labels[rows],
            crowd=sample.crowd[rows],
            mask=None if sample.mask is None else result["mask"],
            placement=Placement(result["image"].shape[:2]),
        )


@dataclass(frozen=True)
class _Called:
    """A plain `Sample -> Sample`: Python's, NumPy's and Torch's global random numbers are seeded around it."""

    function: Callable[[Sample], Sample]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        with global_seed(int(rng.integers(2**31))):
            result = self.function(sample)
        if not isinstance(result, Sample):
            raise UsageError(f"an augmentation returns a Sample, got {type(result).__name__}")
        return result


def _check_orientation(name: str) -> None:
    if name not in ORIENTATIONS:
        raise unknown_name("orientation", name, ORIENTATIONS)


def strength_of(given: str | float | None) -> float:
    """Return the number, 0-1, that the name of a strength stands for; a number is itself, `None` is 0."""
    if isinstance(given, str) and given not in STRENGTHS:
        raise unknown_name("augmentation", given, STRENGTHS)
    return STRENGTHS[given or "none"] if given is None or isinstance(given, str) else float(given)


def _adapted(augmentation: Any) -> Augmentation:
    if not callable(augmentation):
        raise UsageError(
            f"an augmentation is a name, a strength from 0 to 1, an albumentations.Compose or a callable, "
            f"got {type(augmentation).__name__}",
            f"names: {', '.join(STRENGTHS)}",
        )
    # Whoever has a Compose in hand has imported Albumentations; nobody else needs to wait for it.
    library = sys.modules.get("albumentations")
    if library is None or not isinstance(augmentation, (library.Compose, library.BasicTransform)):
        return augmentation if _takes_generator(augmentation) else _Called(augmentation)
    if isinstance(augmentation, library.BasicTransform):
        augmentation = library.Compose([augmentation])
    given = augmentation.processors["bboxes"].params if "bboxes" in augmentation.processors else None
    limits = ("min_area", "min_visibility", "min_width", "min_height")
    params = library.BboxParams(
        format="pascal_voc",
        label_fields=["rows"],
        clip=True,
        filter_invalid_bboxes=True,
        **{limit: getattr(given, limit) for limit in limits if given is not None},
    )
    transforms = copy.deepcopy(augmentation.transforms)
    for transform in transforms:
        _prepare_for_masks(transform)
    with warnings.catch_warnings():  # that changes of colour alone do nothing with boxes is no news
        warnings.filterwarnings("ignore", "Got processor for bboxes")
        return _Composed(library.Compose(transforms, bbox_params=params, p=augmentation.p))


def _prepare_for_masks(transform: Any) -> None:
    """Refuse interpolation of masks, and leave what a transform uncovers without a label instead of label 0."""
    for inner in getattr(transform, "transforms", None) or ():
        _prepare_for_masks(inner)
    how = getattr(transform, "mask_interpolation", cv2.INTER_NEAREST)
    if how not in (None, cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
        raise UsageError(
            f"{type(transform).__name__} interpolates masks (mask_interpolation={how}), which invents labels",
            "leave mask_interpolation at cv2.INTER_NEAREST",
        )
    if getattr(transform, "fill_mask", None) == 0:
        transform.fill_mask = IGNORE_LABEL


def _takes_generator(function: Callable) -> bool:
    """Whether a callable wants a sample and a generator, as an `Augmentation` does, and not a sample alone."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [item for item in parameters if item.default is item.empty and item.kind < item.VAR_POSITIONAL]
    return len(needed) == 2


def _seed(compose: Any, rng: np.random.Generator) -> None:
    # One stream for all transforms. Compose's own seeding gives every transform an equal stream of its own, so
    # that two with p=0.5 would always act together.
    compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))


def _worse(strength: float) -> Any:
    """Return what makes a picture worse as a Compose: blur, compression or noise, one of them."""
    library = _albumentations()
    ways = [
        library.GaussianBlur(blur_limit=(3, 5), p=1),
        library.MotionBlur(blur_limit=(3, 5), p=1),
        library.ImageCompression(quality_range=(40, 90), p=1),
        library.GaussNoise(std_range=(0.01, 0.01 + 0.05 * strength), noise_scale_factor=0.5, p=1),
    ]
    return library.Compose([library.OneOf(ways, p=1)])


def _albumentations() -> Any:
    """Import Albumentations without letting it ask the network for a newer release."""
    switch = "NO_ALBUMENTATIONS_UPDATE"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        import albumentations
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before
    return albumentations


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global random numbers for a while and put them back, so that training draws as if nothing was."""
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.set_rng_state(before[2])

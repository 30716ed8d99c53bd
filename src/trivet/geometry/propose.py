"""Proposes anchors, and if need be a larger input, for the boxes of a data set."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, SizeHW
from trivet.geometry.coverage import Coverage, measure_coverage

SCALES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
GROWTHS = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
_SAMPLE = 2000  # boxes a candidate is judged on


@dataclass(frozen=True)
class AnchorProposal:
    """Anchors that suit a data set at one input size.

    Args:
        size_hw: The input size.
        spec: The proposed anchors; those given, where no others are clearly better.
        before: Coverage of the anchors given.
        after: Coverage of the proposed ones.
        larger: The proposal for the smallest larger input that covers enough (or the most), where this one does
            not; its cost in time and memory grows with its area.
    """

    size_hw: SizeHW
    spec: AnchorSpec
    before: Coverage
    after: Coverage
    larger: "AnchorProposal | None" = None

    @property
    def reason(self) -> str:
        """The proposal in a sentence for people."""
        height, width = self.size_hw
        text = f"at {width} x {height} anchors meet {self.before.share:.0%} of boxes"
        if self.after is not self.before:
            shapes = ", ".join(f"{x:.2g} x {y:.2g}" for x, y in self.spec.ratios)
            text += f", with scale {self.spec.scale:g} and shapes {shapes} {self.after.share:.0%}"
        return text if self.larger is None else f"{text}; {self.larger.reason}"


def propose_anchors(
    boxes_wh: Float[Tensor, "n 2"],
    size_hw: SizeHW,
    *,
    spec: AnchorSpec | None = None,
    least_gain: float = 0.02,
    enough: float = 0.9,
) -> AnchorProposal:
    """Look for anchors that meet more of a data set's boxes, as many a cell as the given ones have.

    Every scale of `SCALES` is tried, with the given shapes and with those of the boxes themselves. Boxes are spread
    evenly over the input, since augmentation moves them anyway; nothing is random.

    Args:
        boxes_wh: Widths and heights in pixels of the input, above 0.
        size_hw: Size of the network's input.
        spec: Anchors to improve on; EfficientDet's when not given.
        least_gain: Change scale or shapes only for so much more coverage (a share in 0-1): pretrained heads know
            theirs.
        enough: Coverage, also of each size that is a tenth of the boxes or more, from which the input need not grow.

    Raises:
        UsageError: If there are no boxes, or a side is not finite and above 0.
    """
    if not len(boxes_wh) or not bool(((boxes_wh > 0) & boxes_wh.isfinite()).all()):
        shown = (
            f"{len(boxes_wh)} boxes with the least side {float(boxes_wh.min())}" if len(boxes_wh) else "none"
        )
        raise UsageError(f"anchors are proposed from finite widths and heights above 0, got {shown}")
    spec = AnchorSpec() if spec is None else spec
    sample = _sample(boxes_wh.float())
    best = _propose_at(1.0, sample, size_hw, spec, least_gain)
    now = best
    for growth in GROWTHS:
        if _least_share(best.after) >= enough:
            break
        larger = _propose_at(growth, sample, size_hw, spec, least_gain)
        if _least_share(larger.after) > _least_share(best.after) + least_gain:
            best = larger
    return now if best is now else replace(now, larger=best)


def ratios_of(boxes_wh: Float[Tensor, "n 2"], count: int) -> tuple[tuple[float, float], ...]:
    """Return so many (width, height) factors of area 1 that are typical of these boxes, the widest first.

    They are the centres of `count` clusters of log(width / height) (k-means on a line).
    """
    logs = (boxes_wh[:, 0] / boxes_wh[:, 1]).log().cpu()
    centres = logs.quantile((torch.arange(count) + 0.5) / count)
    for _ in range(20):
        nearest = (logs[:, None] - centres).abs().argmin(dim=1)
        sums = torch.zeros_like(centres).index_add(0, nearest, logs)
        counts = torch.bincount(nearest, minlength=count)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    widths = (centres / 2).exp().sort(descending=True).values
    return tuple((round(width, 3), round(1 / width, 3)) for width in widths.tolist())


def _propose_at(
    growth: float, boxes_wh: Tensor, size_hw: SizeHW, spec: AnchorSpec, least_gain: float
) -> AnchorProposal:
    """Propose anchors for the input and its boxes made `growth` times as large."""
    size_hw = round(size_hw[0] * growth), round(size_hw[1] * growth)
    boxes_xyxy = _spread(boxes_wh * growth, size_hw)
    before = measure_coverage(spec, size_hw, boxes_xyxy)
    best, after = spec, before
    for ratios in (spec.ratios, ratios_of(boxes_wh, len(spec.ratios))):
        tried = [replace(spec, scale=scale, ratios=ratios) for scale in SCALES]
        coverages = [measure_coverage(candidate, size_hw, boxes_xyxy) for candidate in tried]
        top = max(range(len(tried)), key=lambda i: (round(coverages[i].share, 3), coverages[i].mean_best_iou))
        if coverages[top].share >= after.share + least_gain:
            best, after = tried[top], coverages[top]
    return AnchorProposal(size_hw, best, before, after)


def _least_share(coverage: Coverage) -> float:
    common = [size.share for size in coverage.by_size.values() if size.boxes * 10 >= coverage.boxes]
    return min([coverage.share, *common])


def _sample(boxes_wh: Tensor) -> Tensor:
    """Return `_SAMPLE` boxes or about so many: every k-th by area, or all of them several times over."""
    ordered = boxes_wh[boxes_wh.prod(dim=1).argsort(stable=True)]
    if len(ordered) >= _SAMPLE:
        return ordered[torch.linspace(0, len(ordered) - 1, _SAMPLE).round().long()]
    return ordered.repeat(-(-_SAMPLE // len(ordered)), 1)


def _spread(boxes_wh: Tensor, size_hw: SizeHW) -> Tensor:
    """Place boxes evenly over the input, by the R2 low-discrepancy sequence; return corners."""
    plastic = 1.324717957244746
    turns = torch.arange(1, len(boxes_wh) + 1, dtype=torch.float64)[:, None]
    spread = (turns * torch.tensor([1 / plastic, 1 / plastic**2], dtype=torch.float64)).frac().to(boxes_wh)
    room = (boxes_wh.new_tensor([size_hw[1], size_hw[0]]) - boxes_wh).clamp(min=0)
    left_top = spread * room
    return torch.cat([left_top, left_top + boxes_wh], dim=1)

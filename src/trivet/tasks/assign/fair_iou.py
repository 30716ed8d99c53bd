"""Assignment in which every object that can be seen trains at least one anchor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trivet.geometry.boxes import areas, matched_iou, reach_into
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.assign.assignment import Assignment, JoinedTruth, best_of_each

_MOST_PAIRS = 1 << 21  # (object, anchor) pairs compared at once: 32 MB for the boxes of as many anchors
_NEARNESS = 1e-4  # what a distance of one anchor is worth in IoU: decides between equals only
_CHOICES = 64  # how far down its list of anchors an object goes when the better ones are taken


@dataclass(frozen=True)
class FairIou:
    """Each anchor takes its best object if they overlap enough; each object claims one anchor for itself.

    - Claims are settled as in SSD's bipartite matching (Liu et al. 2016, section 2.2): the pair with the highest
      IoU first; who finds an anchor taken goes on to his next best. So two objects that share a best anchor
      both train.
    - Objects with one and the same box are one object with several classes: its anchors are positive for each.
      Apart they could only contradict each other, each being the other's negative at the same place.
    - Anchors that hold a small object overlap it all alike; of these the one nearest its centre counts as the best.
    - An object without area inside the input, or that overlaps no anchor, gets none.

    Where no two objects want one anchor this equals `ArgmaxIou`.

    Args:
        threshold: Least IoU, in 0-1, for an anchor to be positive beside the claimed one.
    """

    threshold: float = 0.5

    def __call__(self, truth: JoinedTruth, grid: AnchorGrid) -> Assignment:
        """Return the positives of a batch."""
        seen = reach_into(truth.boxes_xyxy, grid.size_hw).nonzero()[:, 0]
        rows = torch.cat([truth.image[seen, None].to(truth.boxes_xyxy), truth.boxes_xyxy[seen]], dim=1)
        places, place_of = rows.unique(dim=0, return_inverse=True)  # an image and a box each
        anchors, owners = self._positives(places[:, 0].long(), places[:, 1:], grid)
        labelled, labels = torch.stack([place_of, truth.labels[seen]], dim=1).unique(dim=0).unbind(1)
        class_anchors, class_labels = _join(anchors, owners, labelled, labels)
        return Assignment(anchors, places[owners, 1:], class_anchors, class_labels)

    def _positives(self, image: Tensor, boxes_xyxy: Tensor, grid: AnchorGrid) -> tuple[Tensor, Tensor]:
        """Return the positive anchors, each once, and the place that owns each."""
        hits, choices = [], []
        window = grid.nearby(boxes_xyxy[:1], self.threshold).shape[1]
        for part in torch.arange(len(image), device=image.device).split(max(1, _MOST_PAIRS // window)):
            numbers, overlap, fondness = self._compare(image[part], boxes_xyxy[part], grid)
            row, column = (overlap >= self.threshold).nonzero().unbind(1)
            hits.append((numbers[row, column], part[row], overlap[row, column]))
            best, column = fondness.topk(min(_CHOICES, window), dim=1)
            choices.append((numbers.gather(1, column), best))
        claimant, claimed = _settle(*map(torch.cat, zip(*choices, strict=True)))
        anchors, owners, overlaps = map(torch.cat, zip(*hits, strict=True))
        anchors, owners = torch.cat([claimed, anchors]), torch.cat([claimant, owners])
        # an IoU is at most 1, so a claim is stronger than any overlap
        strength = torch.cat([overlaps.new_full((len(claimed),), 2.0), overlaps])
        winners = best_of_each(anchors, strength)
        return anchors[winners], owners[winners]

    def _compare(self, image: Tensor, boxes_xyxy: Tensor, grid: AnchorGrid) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for the anchors near each box, their numbers, IoU, and IoU less a trifle for distance."""
        near = grid.nearby(boxes_xyxy, self.threshold)
        anchors_xyxy = grid.anchors_xyxy(boxes_xyxy.device)
        found = anchors_xyxy.index_select(0, near.clamp(min=0).flatten()).view(*near.shape, 4)
        overlap = torch.where(near >= 0, matched_iou(boxes_xyxy[:, None], found), -1.0)
        fondness = overlap - _NEARNESS * _distance(boxes_xyxy[:, None], found).clamp(max=1)
        return near + image[:, None] * grid.count, overlap, fondness


def _distance(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Return the distance of the centres in anchor sizes, squared."""
    apart = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:] - anchors_xyxy[..., :2] - anchors_xyxy[..., 2:]) / 2
    return apart.square().sum(dim=-1) / areas(anchors_xyxy)


def _settle(choices: Tensor, fondness: Tensor) -> tuple[Tensor, Tensor]:
    """Give each row its favourite anchor that no fonder row claims; return the rows and their anchors.

    Rounds of deferred acceptance; almost always one or two.
    """
    end = fondness.new_zeros(len(fondness), 1)
    fondness, choices = torch.cat([fondness, end], dim=1), torch.cat([choices, end.long()], dim=1)
    turn = torch.zeros(len(choices), 1, dtype=torch.int64, device=choices.device)
    while True:
        offered = fondness.gather(1, turn)[:, 0]
        rows = (offered > 0).nonzero()[:, 0]
        wanted = choices.gather(1, turn)[rows, 0]
        winners = best_of_each(wanted, offered[rows])
        if len(winners) == len(rows):
            return rows, wanted
        turned_down = torch.ones_like(wanted)
        turned_down[winners] = 0
        turn[rows, 0] += turned_down


def _join(anchors: Tensor, owners: Tensor, labelled: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return every (anchor, label) pair; `labelled` is sorted and names the place each label belongs to."""
    counts = torch.bincount(labelled, minlength=int(owners.max()) + 1 if len(owners) else 0)
    first = counts.cumsum(0) - counts
    repeats = counts[owners]
    within = torch.arange(int(repeats.sum()), device=anchors.device)
    within = within - (repeats.cumsum(0) - repeats).repeat_interleave(repeats)
    return anchors.repeat_interleave(repeats), labels[first[owners].repeat_interleave(repeats) + within]

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
        anchors_xyxy = grid.anchors_xyxy(boxes_xyxy.device)
        anchors, owners, overlaps = [image[:0]], [image[:0]], [boxes_xyxy[:0, 0]]
        choices, choice_overlaps = [image.new_zeros(0, 1)], [boxes_xyxy.new_zeros(0, 1)]
        rows = torch.arange(len(boxes_xyxy), device=image.device)
        window = grid.nearby(boxes_xyxy[:1], self.threshold).shape[1]
        for part in rows.split(max(1, _MOST_PAIRS // max(1, window))):
            near = grid.nearby(boxes_xyxy[part], self.threshold)
            found = anchors_xyxy[near.clamp(min=0)]
            overlap = matched_iou(boxes_xyxy[part, None], found)
            overlap = torch.where(near >= 0, overlap, -1.0)
            near = near + image[part, None] * grid.count
            owner, column = (overlap >= self.threshold).nonzero().unbind(1)
            anchors.append(near[owner, column])
            owners.append(part[owner])
            overlaps.append(overlap[owner, column])
            fondness = overlap - _NEARNESS * _distance(boxes_xyxy[part, None], found).clamp(max=1)
            best, column = fondness.topk(min(_CHOICES, overlap.shape[1]), dim=1)
            choices.append(near.gather(1, column))
            choice_overlaps.append(best)
        claimant, claimed = _settle(
            torch.cat(choices[1:] or choices), torch.cat(choice_overlaps[1:] or choice_overlaps)
        )
        anchor, owner = torch.cat([claimed, *anchors]), torch.cat([claimant, *owners])
        # an IoU is at most 1, so a claim is stronger than any overlap
        strength = torch.cat([boxes_xyxy.new_full((len(claimed),), 2.0), *overlaps])
        winners = best_of_each(anchor, strength)
        return anchor[winners], owner[winners]


def _distance(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Return the distance of the centres in anchor sizes, squared."""
    apart = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:] - anchors_xyxy[..., :2] - anchors_xyxy[..., 2:]) / 2
    return apart.square().sum(dim=-1) / areas(anchors_xyxy)


def _settle(choices: Tensor, overlaps: Tensor) -> tuple[Tensor, Tensor]:
    """Give each row its best anchor that no row with a higher IoU claims; return the rows and their anchors.

    Rounds of deferred acceptance; almost always one or two.
    """
    end = overlaps.new_zeros(len(overlaps), 1)
    overlaps, choices = torch.cat([overlaps, end], dim=1), torch.cat([choices, end.long()], dim=1)
    turn = torch.zeros(len(choices), 1, dtype=torch.int64, device=choices.device)
    while True:
        overlap = overlaps.gather(1, turn)[:, 0]
        rows = (overlap > 0).nonzero()[:, 0]
        wanted = choices.gather(1, turn)[rows, 0]
        winners = best_of_each(wanted, overlap[rows])
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

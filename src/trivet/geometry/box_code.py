"""Two box codes: four numbers (ty, tx, th, tw) that say where an object lies, seen from an anchor.

Centres differ in anchor sizes, sizes in logarithms (Faster R-CNN, section 3.1.2, without scale factors, as
EfficientDet does; TensorFlow's Object Detection API multiplies by 10, 10, 5, 5 and is not compatible): `encode` and
`decode`. Or a centre stays near the anchor's cell, by a sigmoid (YOLOv3, section 2.1, and YOLOv4, section 3.4):
`decode_in_cell`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.geometry.boxes import cxcywh_from_xyxy


def encode(boxes_xyxy: Float[Tensor, "*n 4"], anchors_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return the deltas that turn each anchor into the box in the same row; boxes need an area above 0."""
    anchor_x, anchor_y, anchor_w, anchor_h = cxcywh_from_xyxy(anchors_xyxy).unbind(-1)
    x, y, width, height = cxcywh_from_xyxy(boxes_xyxy).unbind(-1)
    offsets = ((y - anchor_y) / anchor_h, (x - anchor_x) / anchor_w)
    return torch.stack([*offsets, (height / anchor_h).log(), (width / anchor_w).log()], dim=-1)


def decode(
    box_deltas: Float[Tensor, "*n 4"], anchors_xyxy: Float[Tensor, "*n 4"], *, most_log: float | None = None
) -> Float[Tensor, "*n 4"]:
    """Return the boxes that deltas make of the anchors in the same row.

    Args:
        box_deltas: (ty, tx, th, tw) a row.
        anchors_xyxy: The anchors the deltas start from.
        most_log: Bound on th and tw, for losses that must stay finite; none gives the exact inverse of `encode`.
    """
    anchor_x, anchor_y, anchor_w, anchor_h = cxcywh_from_xyxy(anchors_xyxy).unbind(-1)
    ty, tx, th, tw = box_deltas.unbind(-1)
    if most_log is not None:
        th, tw = th.clamp(max=most_log), tw.clamp(max=most_log)
    x, y = tx * anchor_w + anchor_x, ty * anchor_h + anchor_y
    half_w, half_h = tw.exp() * anchor_w / 2, th.exp() * anchor_h / 2
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)


def decode_in_cell(
    box_deltas: Float[Tensor, "*n 4"],
    anchors_xyxy: Float[Tensor, "*n 4"],
    reach_wh: Float[Tensor, "*n 2"],
    *,
    most_log: float | None = None,
) -> Float[Tensor, "*n 4"]:
    """Return the boxes that deltas make of the anchors in the same row, each centre within reach of its anchor's.

    With b = s sigmoid(t) - (s - 1) / 2 + cell, as the papers have it in cells, the centre is s (sigmoid(t) - 1/2) away
    from the middle of its cell, which is the anchor's centre.

    Args:
        box_deltas: (ty, tx, th, tw) a row.
        anchors_xyxy: The anchors the deltas start from.
        reach_wh: Width and height of the range of each centre, in the anchors' unit: the cell's sides times s.
        most_log: Bound on th and tw, for losses that must stay finite.
    """
    anchor_x, anchor_y, anchor_w, anchor_h = cxcywh_from_xyxy(anchors_xyxy).unbind(-1)
    ty, tx, th, tw = box_deltas.unbind(-1)
    if most_log is not None:
        th, tw = th.clamp(max=most_log), tw.clamp(max=most_log)
    reach_x, reach_y = reach_wh.unbind(-1)
    x, y = (tx.sigmoid() - 0.5) * reach_x + anchor_x, (ty.sigmoid() - 0.5) * reach_y + anchor_y
    half_w, half_h = tw.exp() * anchor_w / 2, th.exp() * anchor_h / 2
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)

"""Boxes as tensors: conversions, areas, overlap. The format is in the name; units are whatever the boxes are in.

Pairwise functions compare every row of one with every row of the other; matched functions compare row by row.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def xyxy_from_xywh(boxes_xywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Turn (left, top, width, height), COCO's form, into corners."""
    left_top, size = boxes_xywh.split(2, dim=-1)
    return torch.cat([left_top, left_top + size], dim=-1)


def xywh_from_xyxy(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Turn corners into (left, top, width, height), COCO's form."""
    left_top, right_bottom = boxes_xyxy.split(2, dim=-1)
    return torch.cat([left_top, right_bottom - left_top], dim=-1)


def xyxy_from_cxcywh(boxes_cxcywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Turn (centre x, centre y, width, height), YOLO's form, into corners."""
    centre, size = boxes_cxcywh.split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def cxcywh_from_xyxy(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Turn corners into (centre x, centre y, width, height), YOLO's form."""
    left_top, right_bottom = boxes_xyxy.split(2, dim=-1)
    return torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], dim=-1)


def areas(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return width x height; negative or meaningless for boxes whose corners are swapped."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return (y2 - y1) * (x2 - x1)


def clip(boxes_xyxy: Float[Tensor, "*n 4"], size_hw: tuple[int, int]) -> Float[Tensor, "*n 4"]:
    """Cut boxes at the border of an image; a box outside it ends up with no area."""
    height, width = size_hw
    limit = boxes_xyxy.new_tensor([width, height, width, height])
    return boxes_xyxy.clamp(min=0).minimum(limit)


def reach_into(boxes_xyxy: Float[Tensor, "*n 4"], size_hw: tuple[int, int]) -> Bool[Tensor, "*n"]:
    """Say which boxes have an area inside an image of this size."""
    x1, y1, x2, y2 = clip(boxes_xyxy, size_hw).unbind(-1)
    return (x2 > x1) & (y2 > y1)


def intersections(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Return the area two boxes share; leading axes broadcast."""
    left_top = torch.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    right_bottom = torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    width, height = (right_bottom - left_top).clamp(min=0).unbind(-1)
    return height * width


def matched_iou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Return intersection over union of boxes in the same row, in 0-1; 0 where they share nothing."""
    shared = intersections(first_xyxy, second_xyxy)
    union = areas(first_xyxy) + areas(second_xyxy) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def pairwise_iou(first_xyxy: Float[Tensor, "n 4"], second_xyxy: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Return intersection over union of every pair, in 0-1; 0 where they share nothing."""
    return matched_iou(first_xyxy[:, None], second_xyxy[None])


def matched_giou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Return generalised IoU of boxes in the same row, in -1 to 1 (Rezatofighi et al. 2019, algorithm 1)."""
    shared = intersections(first_xyxy, second_xyxy)
    union = areas(first_xyxy) + areas(second_xyxy) - shared
    width, height = _hull_wh(first_xyxy, second_xyxy)
    hull = width * height
    smallest = torch.finfo(hull.dtype).tiny
    return shared / union.clamp(min=smallest) - (hull - union) / hull.clamp(min=smallest)


def pairwise_giou(
    first_xyxy: Float[Tensor, "n 4"], second_xyxy: Float[Tensor, "m 4"]
) -> Float[Tensor, "n m"]:
    """Return generalised IoU of every pair, in -1 to 1."""
    return matched_giou(first_xyxy[:, None], second_xyxy[None])


def matched_ciou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Return complete IoU of boxes in the same row, at most 1 (Zheng et al. 2020, equations 9 to 11).

    It is IoU less (distance of the centres / diagonal of the hull) squared, less a term for unlike shapes.
    """
    tiny, eps = torch.finfo(first_xyxy.dtype).tiny, torch.finfo(first_xyxy.dtype).eps
    iou = matched_iou(first_xyxy, second_xyxy)
    hull_width, hull_height = _hull_wh(first_xyxy, second_xyxy)
    first_x, first_y, first_w, first_h = cxcywh_from_xyxy(first_xyxy).unbind(-1)
    second_x, second_y, second_w, second_h = cxcywh_from_xyxy(second_xyxy).unbind(-1)
    apart = (first_x - second_x) ** 2 + (first_y - second_y) ** 2
    turn = (first_w / first_h.clamp(min=eps)).atan() - (second_w / second_h.clamp(min=eps)).atan()
    shape = 4 / math.pi**2 * turn**2
    with torch.no_grad():  # the trade-off weighs the term and is not itself learnt from
        weight = shape / (1 - iou + shape).clamp(min=tiny)
    return iou - apart / (hull_width**2 + hull_height**2).clamp(min=tiny) - weight * shape


def _hull_wh(first_xyxy: Tensor, second_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height of the smallest boxes that hold both."""
    left_top = torch.minimum(first_xyxy[..., :2], second_xyxy[..., :2])
    right_bottom = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    width, height = (right_bottom - left_top).unbind(-1)
    return width, height

"""The values that cross a layer: small, frozen, checked when they are made.

Conventions, everywhere: images are RGB; `boxes_xyxy` are (left, top, right, bottom) in pixels of the image in
hand, with the right and bottom edges exclusive (a box that covers one pixel is 1 wide); labels count from 0;
a detector has no background class, a segmenter's background is a class like any other; sizes are
`(height, width)`; masks are uint8, 255 is ignored.
"""

from trivet.structures.naming import IGNORE_LABEL, TASKS, FeatureSpec, LabelMap, TaskName
from trivet.structures.outputs import AnchorOutput, ClassScores, Detections, MaskScores
from trivet.structures.placement import Placement
from trivet.structures.samples import Batch, BoxTarget, ClassTargets, MaskTargets, Sample, Targets
from trivet.structures.tables import PredictionTable, TruthTable

__all__ = [
    "IGNORE_LABEL",
    "TASKS",
    "AnchorOutput",
    "Batch",
    "BoxTarget",
    "ClassScores",
    "ClassTargets",
    "Detections",
    "FeatureSpec",
    "LabelMap",
    "MaskScores",
    "MaskTargets",
    "Placement",
    "PredictionTable",
    "Sample",
    "Targets",
    "TaskName",
    "TruthTable",
]

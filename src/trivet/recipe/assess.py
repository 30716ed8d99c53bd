"""Validation, scoring and the report's gallery of each task: one file a task, one line here."""

from trivet.recipe.assess_classification import ClassificationAssessor
from trivet.recipe.assess_detection import DetectionAssessor
from trivet.recipe.assess_segmentation import SegmentationAssessor
from trivet.recipe.assessment import Assessor
from trivet.structures import TaskName

ASSESSORS: dict[TaskName, Assessor] = {
    "detection": DetectionAssessor(),
    "segmentation": SegmentationAssessor(),
    "classification": ClassificationAssessor(),
}

"""Trivet: vision models of published parts, trained on one modest machine, with a doctor who says why not.

The public names are loaded when they are first used: importing `trivet` loads nothing heavy.
"""

from importlib import import_module

_HOMES = {
    "AnchorSpec": "trivet.geometry.anchors",
    "Batch": "trivet.structures",
    "Detections": "trivet.structures",
    "DetectionScores": "trivet.evaluate.scores",
    "DetectionTask": "trivet.tasks.detection",
    "Finding": "trivet.doctor.finding",
    "LabelMap": "trivet.structures",
    "Model": "trivet.models.model",
    "PixelAnchors": "trivet.geometry.pixel_anchors",
    "PredictionTable": "trivet.structures",
    "Sample": "trivet.structures",
    "TruthTable": "trivet.structures",
    "UsageError": "trivet.errors",
    "YoloTask": "trivet.tasks.yolo",
    "audit_dataset": "trivet.data.audit",
    "build_model": "trivet.models.build",
    "compare_models": "trivet.recipe.compare",
    "count_model": "trivet.models.count",
    "diagnose": "trivet.doctor.diagnose",
    "export_model": "trivet.recipe.export",
    "evaluate_detection": "trivet.evaluate.detection",
    "fit": "trivet.recipe.fit",
    "load_run": "trivet.recipe.run_folder",
    "load_weights": "trivet.models.weights",
    "plan_memory": "trivet.memory.plan",
    "predict": "trivet.recipe.predict",
    "predict_files": "trivet.recipe.predict_files",
    "read_dataset": "trivet.data.sources",
    "read_image": "trivet.data.images",
    "resume": "trivet.recipe.fit",
    "save_weights": "trivet.models.files",
    "score": "trivet.recipe.score",
    "watch": "trivet.doctor.watch",
    "write_digits": "trivet.data.digits",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'trivet' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

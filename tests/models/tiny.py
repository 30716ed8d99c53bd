"""A detector small enough for every test."""

from trivet.models.build import build_model
from trivet.models.model import Model

OPTIONS = {"channels": 8, "layers": 1, "tower_layers": 1, "levels": (3, 5)}


def tiny_model(classes: int = 2, **options) -> Model:
    """Build a detector of some ten thousand parameters in its neck and head."""
    return build_model(backbone="test_resnet", classes=classes, **{**OPTIONS, **options})

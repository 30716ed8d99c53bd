"""Published classifiers by name."""

from trivet.models.entry import ZooEntry

CLASSIFIERS: dict[str, ZooEntry] = {}

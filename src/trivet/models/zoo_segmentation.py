"""Published segmenters by name."""

from trivet.models.entry import ZooEntry

SEGMENTERS: dict[str, ZooEntry] = {}

"""Growing columns, for formats that are read record by record."""

from array import array
from collections.abc import Sequence

import numpy as np

from trivet.data.problems import Problem, problem
from trivet.data.sources.found import Found


class Rows:
    """One split while it is read: images and boxes are added, `found` returns the columns."""

    def __init__(self, split: str | None) -> None:
        self.split = split
        self.names: list[str] = []
        self.files: list[str] = []
        self.problems: list[Problem] = []
        self._ids, self._sizes = array("q"), array("i")
        self._image, self._labels, self._where = array("q"), array("q"), array("q")
        self._boxes, self._crowd = array("d"), array("b")

    def add_image(self, name: str, file: str, *, image_id: int, size_hw: tuple[int, int] = (0, 0)) -> int:
        """Add an image and return its position."""
        self.names.append(name)
        self.files.append(file)
        self._ids.append(image_id)
        self._sizes.extend(size_hw)
        return len(self.names) - 1

    def drop_image(self, image: int) -> None:
        """Take back the image that was added last, which has no boxes yet."""
        assert image == len(self.names) - 1, f"image {image} is not the last of {len(self.names)}"
        self.names.pop()
        self.files.pop()
        self._ids.pop()
        del self._sizes[-2:]

    def add_box(
        self, image: int, box_xyxy: Sequence[float], *, label: int, where: int, crowd: bool = False
    ) -> None:
        """Add a box of the image at this position."""
        self._image.append(image)
        self._boxes.extend(box_xyxy)
        self._labels.append(label)
        self._where.append(where)
        self._crowd.append(crowd)

    def add_problem(self, name: str, file: str, detail: str) -> None:
        """Add a fault that only the source can see."""
        self.problems.append(problem(name, file, detail))

    def found(self, where_word: str, *, normalised: bool = False) -> Found:
        """Return what was added."""
        return Found(
            split=self.split,
            names=self.names,
            files=self.files,
            image_ids=np.array(self._ids, np.int64),
            sizes_hw=np.array(self._sizes, np.int32).reshape(-1, 2),
            image_index=np.array(self._image, np.int64),
            boxes_xyxy=np.array(self._boxes, np.float64).reshape(-1, 4),
            labels=np.array(self._labels, np.int64),
            crowd=np.array(self._crowd, bool),
            areas=np.full(len(self._labels), np.nan),
            where=np.array(self._where, np.int64),
            where_word=where_word,
            normalised=normalised,
            problems=self.problems,
        )

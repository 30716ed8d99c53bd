import json

import pytest
from PIL import Image


class Making:
    """Writes small data sets below a folder."""

    def __init__(self, root):
        self.root = root

    def image(self, name, width=64, height=48, *, orientation=None):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        Image.new("RGB", (width, height), "gray").save(path, exif=exif)
        return path

    def text(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def coco(self, name, images, boxes, categories=((1, "cat"), (7, "dog")), **row):
        """`images`: (id, file name); `boxes`: (image id, category id, xywh)."""
        content = {
            "images": [
                {"id": i, "file_name": file, "width": 64, "height": 48} | row.get("image", {})
                for i, file in images
            ],
            "annotations": [
                {"id": number, "image_id": i, "category_id": c, "bbox": b, "iscrowd": 0}
                for number, (i, c, b) in enumerate(boxes, start=1)
            ],
            "categories": [{"id": i, "name": n, "supercategory": "animal"} for i, n in categories],
        }
        return self.text(name, json.dumps(content))

    def voc(self, name, *objects, filename="x.jpg", size=(64, 48)):
        """`objects`: (class, xmin, ymin, xmax, ymax) and, if any, difficult."""
        rows = "".join(
            f"<object><name>{o[0]}</name><difficult>{o[5] if len(o) > 5 else 0}</difficult><bndbox>"
            f"<xmin>{o[1]}</xmin><ymin>{o[2]}</ymin><xmax>{o[3]}</xmax><ymax>{o[4]}</ymax></bndbox></object>"
            for o in objects
        )
        head = (
            f"<filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        )
        return self.text(name, f"<annotation>{head}{rows}</annotation>")


@pytest.fixture
def make(tmp_path):
    return Making(tmp_path)

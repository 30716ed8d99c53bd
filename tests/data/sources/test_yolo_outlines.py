"""YOLO's polygons as masks."""

import pytest

from trivet.data.sources import read_dataset


def test_polygons_boxes_and_unknown_classes(make, tmp_path):
    make.image("images/train/a.jpg", 40, 20)
    make.image("images/train/b.jpg", 40, 20)
    rows = ["1 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75", "0 0.8 0.5 0.1 0.2", "7 0 0 1 0 1 1", "1 0.1 0.2 0.3"]
    make.text("labels/train/a.txt", "\n".join(rows))
    make.text("data.yaml", "names: [cat, dog]\ntrain: images/train\n")
    splits = read_dataset(tmp_path, task="segmentation", val_share=0.0)
    assert (splits.format, splits.labels.names) == ("yolo", ("background", "cat", "dog"))
    mask = splits.train[0].mask
    assert (mask[5:15, 10:20] == 2).all()
    assert (mask == 2).sum() == 100
    assert (mask[8:12, 30:34] == 255).all()  # a box without outline is ignored
    assert not splits.train[1].mask.any()
    assert sorted(found.name for found in splits.problems) == [
        "image-without-label-file",
        "outline-unusable",
        "unknown-label",
        "unreadable-row",
    ]


@pytest.mark.slow
def test_coco128(shared_data):
    file = shared_data / "coco128" / "classes_instance_segmentation.yaml"
    splits = read_dataset(file, task="segmentation", labels="labels_inst")
    assert [len(split) for split in splits.given] == [128, 128]
    assert len(splits.labels) == 81
    assert "category ids 1 to 90 with gaps" in " ".join(splits.notes)

"""Masks in files: every layout and coding that is read, and what is wrong with files by name."""

import json

import numpy as np
import pytest
from PIL import Image

from trivet.data.sources import read_dataset
from trivet.errors import DataError, UsageError

MASK = np.array([[0, 1, 2, 2], [0, 1, 2, 11]], np.uint8)
CLASSES = "0 sky\n1 tree\n2 car\n11 Void\n# a remark\n"


@pytest.fixture
def put(make, tmp_path):
    def put(name, mask=MASK, *, palette=None, mode=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.asarray(mask), mode) if mode else Image.fromarray(np.asarray(mask))
        if palette:
            picture = Image.fromarray(np.asarray(mask), "P")
            picture.putpalette(palette)
        picture.save(path)
        return path

    def both(image, mask_name, mask=MASK, **how):
        make.image(image, mask.shape[1], mask.shape[0])
        return put(mask_name, mask, **how)

    return both


LAYOUTS = {
    "images/masks with splits": ("images/{split}/a.jpg", "masks/{split}/a.png"),
    "splits with images/masks": ("{split}/images/a.jpg", "{split}/masks/a.png"),
    "camvid": ("{split}/a.jpg", "{split}annot/a.png"),
    "kaggle": ("{split}/a.jpg", "{split}_labels/a_L.png"),
    "mmsegmentation": ("img_dir/{split}/a.jpg", "ann_dir/{split}/a.png"),
    "endings": ("{split}_images/a.jpg", "{split}_masks/a_mask.png"),
}


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_folders(self, put, make, tmp_path, layout):
        image, mask = LAYOUTS[layout]
        for split in ("train", "val", "test"):
            put(image.format(split=split), mask.format(split=split))
        make.text("classes.txt", CLASSES)
        splits = read_dataset(tmp_path)
        assert (splits.format, splits.task) == ("masks", "segmentation")
        assert [(split.split, len(split)) for split in splits.given] == [
            ("train", 1),
            ("val", 1),
            ("test", 1),
        ]
        assert splits.train.name(0) == image.format(split="train")
        assert splits.problems == ()
        sample = splits.val[0]
        assert sample.mask.dtype == np.uint8
        assert sample.mask.tolist() == [[0, 1, 2, 2], [0, 1, 2, 255]]

    def test_lists_of_pairs_as_segnet_writes_them(self, put, make, tmp_path):
        for split in ("train", "test"):
            put(f"{split}/a.jpg", f"{split}annot/a.png")
            make.text(
                f"{split}.txt",
                f"/SegNet/CamVid/{split}/a.png /SegNet/CamVid/{split}annot/a.png\n\nnonsense\n",
            )
        make.text("classes.txt", CLASSES)
        splits = read_dataset(tmp_path, val_share=0.0)
        assert [split.name(0) for split in splits.given] == ["train/a.jpg", "test/a.jpg"]
        assert [found.name for found in splits.problems] == ["unreadable-row"] * 2
        alone = read_dataset(tmp_path / "test.txt", val_share=0.0)
        assert (alone.format, alone.train.name(0)) == ("masks", "test/a.jpg")

    def test_lists_of_names_as_voc_writes_them(self, put, make, tmp_path):
        for name in "ab":
            put(f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png")
        make.text("ImageSets/Segmentation/train.txt", "a\n")
        make.text("ImageSets/Segmentation/val.txt", "b\nc\n")
        splits = read_dataset(tmp_path)
        assert [split.name(0) for split in splits.given] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
        assert [found.name for found in splits.problems] == ["image-missing"]

    def test_several_folders_of_masks(self, put, tmp_path):
        put("images/a.jpg", "masks/a.png")
        put("images/a.jpg", "labels/a.png", 2 - np.minimum(MASK, 2))
        with pytest.raises(
            UsageError, match=r"several folders of masks.*\n.*--set data.labels=, .*\('labels' or 'masks'\)"
        ):
            read_dataset(tmp_path)
        assert read_dataset(tmp_path, labels="labels", val_share=0.0).train.masks[0][0].tolist() == [
            2,
            1,
            0,
            0,
        ]

    def test_a_division_keeps_classes_on_both_sides(self, put, tmp_path):
        for number in range(10):
            put(f"images/{number}.jpg", f"masks/{number}.png", np.full((2, 4), number % 2, np.uint8))
        splits = read_dataset(tmp_path, val_share=0.4)
        shown = [{int(split.masks[i][0, 0]) for i in range(len(split))} for split in splits.given]
        assert shown == [{0, 1}, {0, 1}]
        assert len(splits.val) == 4


TABLES = {
    "classes.txt": "sky 10 20 30\ntree 0 0 200\nvoid 0 0 0\n",
    "class_dict.csv": "name,r,g,b\nsky,10,20,30\ntree,0,0,200\nVoid,0,0,0\n",
    "label_colors.txt": "10 20 30\tsky\n0 0 200\ttree\n0 0 0\tvoid\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:10,20,30::\ntree:0,0,200::\nvoid:0,0,0::\n",
    "classes.json": json.dumps({"sky": [10, 20, 30], "tree": [0, 0, 200], "void": [0, 0, 0]}),
    "classes.yaml": "classes:\n- {name: sky, color: [10, 20, 30]}\n- {name: tree, color: '#0000c8'}\n- {name: void, color: [0, 0, 0]}\n",
}


class TestCodings:
    @pytest.mark.parametrize("file", TABLES)
    @pytest.mark.parametrize("kept", ["colour", "palette"])
    def test_a_colour_a_class(self, put, make, tmp_path, file, kept):
        colours = np.array([[0, 0, 200], [10, 20, 30], [0, 0, 0]], np.uint8)
        index = np.array([[0, 1, 2], [1, 1, 0]], np.uint8)
        if kept == "colour":
            put("images/a.jpg", "masks/a.png", colours[index])
        else:
            put("images/a.jpg", "masks/a.png", index, palette=colours.ravel().tolist())
        make.text(file, TABLES[file])
        train = read_dataset(tmp_path, val_share=0.0).train
        assert train.labels.names == ("sky", "tree")
        assert train.labels.file_ids == ("#0a141e", "#0000c8")
        assert train.masks[0].tolist() == [[1, 0, 255], [0, 0, 1]]

    def test_palette_indices_and_depths(self, put, make, tmp_path):
        make.text("classes.json", json.dumps(["sky", "tree", "car", *"defghijk", "void"]))
        put("images/a.jpg", "masks/a.png", palette=list(range(36)))
        put("images/b.jpg", "masks/b.png", MASK.astype(np.uint16))
        put("images/c.jpg", "masks/c.png", np.repeat(MASK[..., None], 3, axis=2))
        train = read_dataset(tmp_path, val_share=0.0).train
        for i in range(3):
            assert train.masks[i].tolist() == [[0, 1, 2, 2], [0, 1, 2, 255]]
        assert train.labels.file_ids == tuple(range(11))

    def test_without_a_list_classes_are_called_by_value(self, put, tmp_path):
        put("images/a.jpg", "masks/a.png", np.array([[0, 100, 200, 255]], np.uint8))
        splits = read_dataset(tmp_path, val_share=0.0)
        assert splits.labels.names == ("class_0", "class_100", "class_200")
        assert splits.labels.file_ids == (0, 100, 200)
        assert splits.train.masks[0].tolist() == [[0, 1, 2, 255]]
        assert splits.notes == (
            "no class list: classes are called after the masks' values 0 to 200",
            "ignored (255): 255",
        )

    def test_black_and_white(self, put, tmp_path):
        put("images/a.jpg", "masks/a.png", np.array([[0, 255]], np.uint8))
        splits = read_dataset(tmp_path, val_share=0.0)
        assert splits.labels.names == ("class_0", "class_255")
        assert splits.train.masks[0].tolist() == [[0, 1]]

    def test_names_that_count_from_1(self, put, make, tmp_path):
        make.text("classes.txt", "sky\ntree\n")
        put("images/a.jpg", "masks/a.png", np.array([[0, 1, 2]], np.uint8))
        splits = read_dataset(tmp_path, val_share=0.0)
        assert splits.labels.names == ("background", "sky", "tree")
        assert "0 is background" in splits.notes[0]

    def test_colour_without_a_table(self, put, tmp_path):
        put("images/a.jpg", "masks/a.png", np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
        with pytest.raises(DataError, match="the mask is in colour, and nothing says"):
            read_dataset(tmp_path)

    def test_masks_that_were_mixed(self, put, tmp_path):
        put("images/a.jpg", "masks/a.png", np.arange(256, dtype=np.uint16)[None] * 3)
        with pytest.raises(DataError, match=r"255 different values, too many.*\n.*JPEG and interpolation"):
            read_dataset(tmp_path)


class TestFaults:
    @pytest.fixture
    def folder(self, put, make, tmp_path):
        make.text("classes.txt", CLASSES)
        put("images/a.jpg", "masks/a.png")
        put("images/strange.jpg", "masks/strange.png", MASK + 5)
        put("images/small.jpg", "masks/small.png")
        make.image("images/small.jpg", 9, 9)
        make.image("images/alone.jpg")
        make.image("images/broken.jpg", 4, 2)
        make.text("masks/broken.png", "this is no picture")
        put("images/gone.jpg", "masks/gone.png")
        (tmp_path / "images/gone.jpg").unlink()
        return tmp_path

    def test_all_are_named_and_left_out(self, folder):
        splits = read_dataset(folder, val_share=0.0)
        assert [splits.train.name(i) for i in range(len(splits.train))] == ["images/a.jpg"]
        found = {problem.name: f"{problem.file}: {problem.detail}" for problem in splits.problems}
        assert set(found) == {
            "unknown-mask-value",
            "image-size-differs",
            "image-without-mask",
            "mask-unreadable",
            "mask-without-image",
        }
        assert found["unknown-mask-value"] == "masks/strange.png: 5, 6, 7, 16, which no class has"
        assert "4 x 2 in masks/small.png, 9 x 9 in the file" in found["image-size-differs"]

    def test_strictly_they_refuse_the_data_set(self, folder):
        with pytest.raises(DataError, match="5 faults"):
            read_dataset(folder, on_bad="error")

    def test_a_mask_that_changes_later_is_still_caught(self, folder):
        train = read_dataset(folder, val_share=0.0).train
        Image.fromarray(MASK + 20).save(folder / "masks/a.png")
        with pytest.raises(
            DataError, match=r"a.png: 8 pixels have the value 20, 21, 22, 31.*\n.*0, 1, 2, 11, 255"
        ):
            train[0]
        Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks/a.png")
        with pytest.raises(DataError, match="the image is 4 x 2 pixels, its mask 3 x 3"):
            train[0]

    def test_two_classes_of_one_colour(self, put, make, tmp_path):
        put("images/a.jpg", "masks/a.png")
        make.text("class_dict.csv", "name,r,g,b\nsky,1,2,3\ntree,1,2,3\n")
        with pytest.raises(DataError, match="two classes have the colour #010203"):
            read_dataset(tmp_path)


class TestRealData:
    @pytest.mark.slow
    def test_camvid(self, shared_data):
        splits = read_dataset(shared_data / "camvid")
        assert [len(split) for split in splits.given] == [367, 101, 233]
        assert splits.labels.names[:3] == ("Sky", "Building", "Pole")
        assert len(splits.labels) == 11
        assert splits.notes[-1] == "ignored (255): 11 Unlabelled"
        stored = np.asarray(Image.open(shared_data / "camvid/trainannot/0001TP_006690.png"))
        np.testing.assert_array_equal(splits.train.masks[0], np.where(stored == 11, 255, stored))

    @pytest.mark.slow
    def test_panoptic_ids(self, shared_data):
        splits = read_dataset(shared_data / "coco128", format="masks", labels="masks_sem")
        assert [len(split) for split in splits.given] == [100, 100]
        assert splits.labels.names[0] == "person"
        assert splits.labels.file_ids[-1] == 200
        assert len(splits.problems) == 56


class TestConfigurations:
    TEXT = (
        "train: {images: ../images/train, masks: masks/train}\nclasses: {0: sky, 1: tree, 2: car, 11: Void}\n"
    )

    def test_one_is_the_path(self, put, make, tmp_path):
        put("images/train/a.jpg", "masks/train/a.png")
        make.text("classes_of_masks.yaml", self.TEXT)
        make.text("classes_of_boxes.yaml", "names: [person, dog]\ntrain: images/train\n")
        splits = read_dataset(tmp_path / "classes_of_masks.yaml", val_share=0.0)
        assert splits.labels.names == ("sky", "tree", "car")
        assert splits.train.masks[0].tolist() == [[0, 1, 2, 2], [0, 1, 2, 255]]

    @pytest.mark.parametrize("text", ["classes: {0: sky}\n", "[1, 2]", "{", "train: masks"])
    def test_another_file_is_none(self, put, make, tmp_path, text):
        put("images/train/a.jpg", "masks/train/a.png")
        make.text("setup.yaml", text)
        with pytest.raises(UsageError, match="holds no data set"):
            read_dataset(tmp_path / "setup.yaml")

    def test_the_real_one(self, shared_data):
        splits = read_dataset(shared_data / "coco128" / "classes_semantic_segmentation.yaml")
        assert (splits.format, len(splits.train), len(splits.labels)) == ("masks", 100, 129)

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from trivet.data.sources import SOURCES, Source, read_dataset
from trivet.data.sources.found import Found, Reading
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap


def write_coco(make):
    make.coco("a.json", [(1, "a.jpg"), (2, "b.jpg")], [(1, 1, [8, 12, 16, 24])])


def write_voc(make):
    make.voc("a.xml", ("cat", 9, 13, 24, 36))
    make.voc("b.xml")


def write_yolo(make):
    make.text("a.txt", "0 0.25 0.5 0.25 0.5\n")
    make.text("b.txt", "")
    make.text("classes.txt", "cat\n")


def write_csv(make):
    make.text("boxes.csv", "a.jpg,8,12,24,36,cat\nb.jpg,,,,,\n")


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo, "csv": write_csv}


@pytest.fixture(params=sorted(name for name, source in SOURCES.items() if "detection" in source.tasks))
def written(request, make):
    for name in "ab":
        make.image(f"{name}.jpg")
    WRITERS[request.param](make)
    return request.param, make


class TestEverySource:
    """What holds for each entry of the table, with the same two images and one box."""

    def test_it_is_found_by_looking_at_the_folder(self, written):
        format, make = written
        assert read_dataset(make.root, val_share=0.0).format == format

    def test_it_gives_the_same_truth(self, written):
        _, make = written
        split = read_dataset(make.root, val_share=0.0).train
        truth = split.truth
        assert [split.name(i) for i in range(len(split))] == ["a.jpg", "b.jpg"]
        assert truth.boxes_xyxy.tolist() == [[8, 12, 24, 36]]
        assert truth.boxes_xyxy.dtype == truth.areas.dtype == np.float32
        assert truth.labels.tolist() == [0]
        assert truth.labels.dtype == truth.offsets.dtype == truth.image_ids.dtype == np.int64
        assert truth.crowd.tolist() == [False]
        assert truth.areas.tolist() == [16 * 24]
        assert truth.offsets.tolist() == [0, 1, 1]
        assert truth.sizes_hw.tolist() == [[48, 64]] * 2
        assert len(set(truth.image_ids.tolist())) == 2
        assert split.labels.names[0] == "cat"
        assert split.problems == ()

    def test_an_image_that_is_no_image_is_left_out_by_name(self, written):
        _, make = written
        (make.root / "b.jpg").write_bytes(b"nonsense")
        split = read_dataset(make.root, val_share=0.0).train
        assert len(split) == 1
        assert [(found.name, found.file) for found in split.problems] == [("image-unreadable", "b.jpg")]
        with pytest.raises(DataError, match=r"has 1 fault:\n  image-unreadable: b\.jpg"):
            read_dataset(make.root, on_bad="error")

    def test_a_cut_image_is_found_when_pixels_are_checked(self, written):
        _, make = written
        content = (make.root / "b.jpg").read_bytes()
        (make.root / "b.jpg").write_bytes(content[: len(content) - 20])
        assert len(read_dataset(make.root, val_share=0.0).train) == 2
        split = read_dataset(make.root, val_share=0.0, check="pixels").train
        assert len(split) == 1
        assert [(found.name, found.file) for found in split.problems] == [("image-unreadable", "b.jpg")]

    def test_every_image_missing_is_an_error(self, written):
        format, make = written
        for name in "ab":
            (make.root / f"{name}.jpg").write_bytes(b"")
        with pytest.raises(DataError, match="no image of the training split can be used\n  image-unreadable"):
            read_dataset(make.root, format=format)

    def test_it_says_what_it_needs(self, written, tmp_path_factory):
        format, _ = written
        with pytest.raises(UsageError, match=f"does not look like {format}\n{format} needs "):
            read_dataset(tmp_path_factory.mktemp("empty"), format=format)


def test_an_empty_folder_tells_what_every_format_needs(tmp_path):
    with pytest.raises(
        UsageError, match=r"(?s)holds no data set: it is empty\nwanted is one of\n.*\n  coco: .*\n  csv: "
    ):
        read_dataset(tmp_path)


def test_two_formats_are_told_and_one_can_be_chosen(make):
    for name in "ab":
        make.image(f"{name}.jpg")
    write_voc(make)
    write_csv(make)
    with pytest.raises(
        UsageError, match=r"several formats: csv: boxes\.csv; voc: 2 XML files like a\.xml\nsay which"
    ):
        read_dataset(make.root)
    assert read_dataset(make.root, format="voc", val_share=0.0).format == "voc"
    assert read_dataset(make.root / "boxes.csv", val_share=0.0).format == "csv"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "cocoo"}, "unknown data set format 'cocoo'; did you mean 'coco'"),
        ({"val_share": 1.0}, r"val_share is at least 0 and less than 1, got 1\.0"),
        ({"images": "nowhere"}, "images='nowhere' is no folder"),
    ],
)
def test_options_out_of_range_are_refused(make, options, message):
    make.image("a.jpg")
    make.image("b.jpg")
    write_coco(make)
    with pytest.raises(UsageError, match=message):
        read_dataset(make.root, **options)


def test_nothing_at_the_path_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"there is no data set at .*nowhere"):
        read_dataset(tmp_path / "nowhere")


def test_a_source_from_outside_is_taken_as_it_is(make):
    make.image("a.jpg")
    column = np.zeros(0, np.int64)

    def read(folder, *, labels=None):
        images = list(folder.images)
        found = Found(
            None, images, ["a.own"], np.arange(1), np.zeros((1, 2), np.int32), column, np.zeros((0, 4)), column,
            column.astype(bool), column.astype(float), column, "row",
        )  # fmt: skip
        return Reading(LabelMap.from_names(["cat"]), (found,))

    source = Source("files of my own", lambda folder: "mine", read)
    split = read_dataset(make.root, format=source, val_share=0.0).train
    assert split.truth.sizes_hw.tolist() == [[48, 64]]


def test_images_may_lie_elsewhere(make, tmp_path_factory):
    make.image("photos/a.jpg")
    make.image("photos/b.jpg")
    annotations = tmp_path_factory.mktemp("annotations")
    (annotations / "boxes.csv").write_text("a.jpg,8,12,24,36,cat\nb.jpg,,,,,\n")
    split = read_dataset(annotations, images=make.root / "photos", val_share=0.0).train
    assert split.path(0) == make.root / "photos" / "a.jpg"
    assert split[0].image.shape == (48, 64, 3)


def test_a_size_that_differs_is_a_fault_but_a_stored_rotation_is_not(make):
    make.image("a.jpg", 64, 48)
    make.image("b.jpg", 32, 48)
    make.image("turned.jpg", 64, 48, orientation=6)
    make.coco("a.json", [(1, "a.jpg"), (2, "b.jpg"), (3, "turned.jpg")], [(3, 1, [0, 0, 64, 48])])
    split = read_dataset(make.root, val_share=0.0).train
    assert [split.name(i) for i in range(2)] == ["a.jpg", "turned.jpg"]
    assert split[1].image.shape == (48, 64, 3)
    assert [str(found) for found in split.problems] == [
        "image-size-differs: b.jpg: 64 x 48 in a.json, 32 x 48 in the file (skipped image)"
    ]


def test_hidden_folders_are_left_out_and_links_are_followed_once(make, tmp_path_factory):
    make.image("set/.hidden/c.jpg")
    make.image("store/a.jpg")
    make.coco("set/a.json", [(1, "a.jpg"), (2, "c.jpg")], [(1, 1, [0, 0, 9, 9])])
    (make.root / "set/images").symlink_to(make.root / "store")
    (make.root / "set/loop").symlink_to(make.root / "set")
    split = read_dataset(make.root / "set", val_share=0.0).train
    assert [split.name(i) for i in range(len(split))] == ["images/a.jpg"]


@pytest.mark.slow
def test_a_million_boxes_load_within_15_seconds_and_1200_megabytes(tmp_path):
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "load_annotations.py"
    spec = importlib.util.spec_from_file_location("load_annotations", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    file = benchmark.make_coco(tmp_path, 100_000, 10)
    result = benchmark.measure_apart(file, "coco")
    assert (result["images"], result["boxes"], result["problems"]) == (100_000, 1_000_000, 0)
    assert result["seconds"] < 15, json.dumps(result)
    assert result["peak_mb"] < 1200, json.dumps(result)

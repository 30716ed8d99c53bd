import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trivet.cli.app import run
from trivet.data.images import read_size


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, size in (("a.png", (90, 50)), ("more/b.jpg", (33, 201))):
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


def test_pictures_json_and_csv(quick_run, pictures, tmp_path, capsys):
    out, rows = tmp_path / "drawn", tmp_path / "found.csv"
    arguments = ["predict", str(quick_run.folder.path), str(pictures), "--out", str(out), "--csv", str(rows)]
    assert run([*arguments, "--threshold", "0.001", "--json", str(tmp_path / "found.json")]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(item["width"], item["height"]) for item in found["images"]] == [(90, 50), (33, 201)]
    assert [item["name"] for item in found["categories"]] == ["zero", "one", "two"]
    table = list(csv.reader(rows.read_text().splitlines()))
    assert len(table) == len(found["annotations"]) + 1
    for item in found["annotations"]:
        x, y, width, height = item["bbox"]
        size = found["images"][item["image_id"]]
        assert 0 <= x <= x + width <= size["width"] + 1e-2
        assert 0 <= y <= y + height <= size["height"] + 1e-2
    sizes = {item.name: read_size(item)[::-1] for item in out.iterdir()}
    assert sizes == {"a.jpg": (90, 50), "b.jpg": (33, 201)}


def test_a_broken_picture_is_named_and_the_others_go_on(quick_run, pictures, capsys):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    assert run(["predict", str(quick_run.folder.path), str(pictures)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert sum("broken.jpg" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing/*.jpg", "nothing/*.jpg holds no images"),
        ("nowhere.jpg", "nowhere.jpg does not exist"),
    ],
)
def test_images_that_are_not_there(quick_run, given, message, capsys):
    assert run(["predict", str(quick_run.folder.path), given]) == 2
    assert message in capsys.readouterr().err


def test_a_threshold_out_of_range(quick_run, pictures, capsys):
    assert run(["predict", str(quick_run.folder.path), str(pictures), "--threshold", "7"]) == 2
    assert "threshold lies in 0-1" in capsys.readouterr().err


def test_a_competition_file_of_boxes_is_read_back_and_scored(quick_run, digits, tmp_path, capsys):
    path, images = tmp_path / "submission.csv", digits / "images" / "test"
    given = ["predict", str(quick_run.folder.path), str(images), "--submission", "boostcamp-det"]
    assert run([*given, "--csv", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 4 rows\n"
    rows = path.read_text().splitlines()
    assert rows[0] == "PredictionString,image_id"
    assert run(["score", str(path), str(digits), "--json", str(tmp_path / "board.json")]) == 0
    board = json.loads((tmp_path / "board.json").read_text())
    assert (board["metric"], board["scored"], board["faults"]) == ("mAP50", 4, [])
    assert 0 <= board["score"] <= 1
    path.write_text("\n".join(rows[:-1]) + "\n")
    assert run(["score", str(path), str(digits)]) == 1
    assert run([*given, "--json", "-"]) == 2
    assert "--submission writes one file, and --json was given too" in capsys.readouterr().err


def test_a_detector_is_not_asked_to_look_twice(quick_run, pictures, capsys):
    assert run(["predict", str(quick_run.folder.path), str(pictures), "--flip"]) == 2
    assert "for classifiers and segmenters" in capsys.readouterr().err

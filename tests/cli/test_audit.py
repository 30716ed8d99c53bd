import json

from trivet.cli.app import run


def test_a_sound_set_has_no_errors(digits, capsys):
    assert run(["audit", str(digits)]) == 0
    assert "train" in capsys.readouterr().out


def test_faults_are_named_as_data_and_on_a_page(shared_data, tmp_path, capsys):
    page, data = tmp_path / "audit.html", tmp_path / "audit.json"
    code = run(["audit", str(shared_data / "bccd"), "--html", str(page), "--json", str(data)])
    assert code == 0
    names = {item["name"] for item in json.loads(data.read_text())["findings"]}
    assert {"zero-area-box", "near-leak-across-splits"} <= names
    assert "zero-area-box" in capsys.readouterr().out
    assert "zero-area-box" in page.read_text()


def test_the_label_folder_is_chosen_where_there_are_several(shared_data, capsys):
    yaml = shared_data / "coco128" / "classes_object_detection.yaml"
    assert run(["audit", str(yaml), "--labels", "labels_det", "--json", "-"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert found["statistics"]["splits"]["train"]["boxes"] == 929


def test_a_folder_with_nothing_in_it(tmp_path, capsys):
    assert run(["audit", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_outlines_as_masks_show_which_pixels_have_several_labels(shared_data, tmp_path, capsys):
    page, data = tmp_path / "audit.html", tmp_path / "audit.json"
    trash = str(shared_data / "trash_competition_sample")
    code = run(["audit", trash, "--task", "segmentation", "--html", str(page), "--json", str(data)])
    assert code == 0
    found = {item["name"]: item for item in json.loads(data.read_text())["findings"]}
    assert found["overlapping-labels"]["evidence"]["images"] == 12
    text = page.read_text()
    assert text.count("marked red") == 6
    assert "image/0003.jpg: 2.35% of the pixels" in text
    assert "77.11%" in text
    assert run(["audit", trash, "--task", "masks"]) == 2
    assert "segmentation" in capsys.readouterr().err

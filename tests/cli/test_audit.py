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

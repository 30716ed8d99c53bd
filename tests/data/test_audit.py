import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_cifar import write_mosaics
from trivet.data.audit import CHECKS, audit_dataset
from trivet.data.problems import PROBLEMS
from trivet.data.sources import read_dataset
from trivet.errors import UsageError


@pytest.fixture(scope="module")
def bccd(shared_data):
    return audit_dataset(shared_data / "bccd")


def counts(audit, key="boxes"):
    return {found.name: found.evidence.get(key, found.evidence.get("count")) for found in audit.findings}


def test_bccd_has_its_known_faults(bccd):
    assert {found.name: found.severity for found in bccd.findings} == {
        "zero-area-box": "warning",
        "near-leak-across-splits": "warning",
        "class-imbalance": "note",
    }
    by_name = {found.name: found for found in bccd.findings}
    assert by_name["zero-area-box"].evidence["count"] == 2
    assert "BloodImage_00343.xml" in by_name["zero-area-box"].evidence["examples"][0]
    assert by_name["near-leak-across-splits"].evidence["examples"] == [
        ["train: JPEGImages/BloodImage_00038.jpg", "val: JPEGImages/BloodImage_00037.jpg"]
    ]
    assert bccd.not_checked == {}
    assert bccd.statistics["splits"]["train"]["images"] == 205


def test_coco128_has_its_known_faults(shared_data):
    audit = audit_dataset(shared_data / "coco128" / "classes_object_detection.yaml", labels="labels_det")
    by_name = {found.name: found.evidence for found in audit.findings}
    assert by_name["annotation-without-image"]["count"] == 2
    assert by_name["image-without-label-file"]["count"] == 2
    assert by_name["image-without-objects"]["images"] == 2
    assert by_name["grayscale-image"]["images"] == 12
    assert by_name["tiny-box"]["boxes"] == 3
    assert "ids-are-not-labels" not in by_name


def test_coco128_of_the_json_has_crowd_and_another_id_space(shared_data):
    audit = audit_dataset(shared_data / "coco128", format="coco")
    by_name = {found.name: found for found in audit.findings}
    assert by_name["crowd-box"].evidence["boxes"] == 10
    assert (
        by_name["ids-are-not-labels"].title == "class ids in the files go from 1 to 90, labels from 0 to 79"
    )


def test_trash_annotations_have_their_known_faults(shared_data):
    folder = shared_data / "trash_annotations"
    recycle = audit_dataset(folder / "recycle_trash_train.json")
    assert counts(recycle)["duplicate-box"] == 1
    assert counts(recycle)["full-image-box"] == 43
    assert counts(recycle)["tiny-box"] == 2
    taco = audit_dataset(folder / "taco_annotations.json")
    assert counts(taco)["annotation-id-twice"] == 2
    assert counts(taco)["clipped-box"] == 7
    assert "full-image-box" not in counts(taco)
    assert set(taco.not_checked) == {
        "unreadable images",
        "equal images and leaks",
        "recordings in several splits",
        "colour",
    }
    assert "not checked: colour (the image files are not there)" in taco.text()


def test_findings_stand_most_important_first_and_the_rest_of_the_form_is_plain_data(bccd):
    content = bccd.to_json()
    assert json.loads(json.dumps(content)) == content
    assert set(content) == {"findings", "statistics", "not_checked", "cost"}
    ranks = [("error", "warning", "note").index(found["severity"]) for found in content["findings"]]
    assert ranks == sorted(ranks)
    assert content["cost"]["seconds"] > 0


def test_the_text_names_every_finding_with_its_remedy(bccd):
    text = bccd.text()
    for found in bccd.findings:
        assert f"{found.severity}: {found.title} [{found.name}]" in text
        assert found.remedy in text
    assert text.startswith("train     205 images     2,804 boxes")


def write(folder, names, *, rows=None):
    rows = rows or [f"{name},1,1,30,30,cat" for name in names]
    (folder / "train.csv").write_text("\n".join(rows))


def test_one_image_in_two_splits_is_an_error(tmp_path):
    for split, colour in (("train", "red"), ("val", "blue")):
        (tmp_path / split).mkdir()
        for i, shade in enumerate((colour, "white")):
            picture = Image.effect_mandelbrot((64, 48), (-2 + i, -1, 1, 1), 90).convert("RGB")
            picture.putpixel((0, 0), (255, 0, 0) if shade == "red" else (0, 0, 255))
            picture.save(tmp_path / split / f"{i}{split}.png")
        (tmp_path / split / "boxes.csv").write_text(
            f"0{split}.png,1,1,30,30,cat\n1{split}.png,2,2,30,30,cat\n"
        )
    audit = audit_dataset(tmp_path)
    assert audit.findings[0].name == "leak-across-splits"
    assert audit.findings[0].severity == "error"


def test_what_was_read_already_is_not_read_again(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    write(tmp_path, ["a.png"])
    splits = read_dataset(tmp_path, val_share=0.0)
    seen = []
    audit = audit_dataset(splits, progress=lambda done, total: seen.append((done, total)))
    assert audit.splits is splits
    assert seen == [(1, 1)]
    unseen = audit_dataset(splits, look_at_images=False)
    assert unseen.not_checked["colour"] == "not asked for"


def test_hostile_names_do_not_reach_the_terminal(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    write(tmp_path, [], rows=["a.png,1,1,30,30,cat\x1b[31m", "a.png,1,1,30,30,cat\x1b[31m"])
    audit = audit_dataset(tmp_path)
    assert "duplicate-box" in counts(audit)
    assert "\x1b" not in audit.text()


def test_a_clean_data_set_has_no_finding(tmp_path):
    rows = []
    for i in range(10):
        Image.effect_noise((64, 48), 50 + i).convert("RGB").resize((256, 192)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,10,10,74,74,cat")
    write(tmp_path, [], rows=rows)
    audit = audit_dataset(tmp_path, size_hw=(256, 256))
    assert audit.findings == ()
    assert audit.text().endswith("no fault was found")


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="there is no data set at"):
        audit_dataset(tmp_path / "nowhere")


def test_every_check_is_a_function_of_the_context_and_every_problem_has_a_remedy():
    assert all(check.__doc__ for check in CHECKS.values())
    assert all(kind.remedy.endswith(".") for kind in PROBLEMS.values())


def test_images_with_a_class_each_are_not_asked_for_boxes(tmp_path):
    write_mosaics(tmp_path)
    audit = audit_dataset(tmp_path)
    assert {found.name for found in audit.findings} == {"rare-class"}
    assert audit.statistics["classes"][0]["images"] == {"train": 6, "test": 4}
    assert audit.not_checked == {"recordings in several splits": "the images are not files of their own"}
    assert "boxes" not in audit.text()


def test_images_in_mosaics_are_compared_across_splits(tmp_path):
    write_mosaics(tmp_path)
    splits = read_dataset(tmp_path, val_share=0.0)
    test = replace(splits.test, pictures=splits.train.pictures.take(np.array([4, 9, *range(8)])))
    audit = audit_dataset(replace(splits, test=test))
    leak = next(found for found in audit.findings if found.name == "leak-across-splits")
    assert (leak.evidence["images"], leak.evidence["groups"]) == (10, 9)  # two of them are one training image
    assert leak.where.file == splits.train.name(0)
    unseen = audit_dataset(splits, look_at_images=False)
    assert unseen.not_checked["equal images and leaks"] == "not asked for"


def test_progress_counts_images_and_masks(digits):
    seen = []
    splits = read_dataset(digits, task="segmentation")
    audit_dataset(splits, progress=lambda done, total: seen.append((done, total)))
    images = sum(map(len, splits.given))
    assert seen == [(i + 1, 2 * images) for i in range(2 * images)]

"""The audit of masks: each fault found by its name, none where there is none."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trivet.data.audit import audit_dataset
from trivet.data.audit_alignment import permutation_p
from trivet.data.audit_outlines import box_fill
from trivet.data.audit_sequences import sequence_of
from trivet.data.digits import write_digits
from trivet.data.mask_survey import survey_masks
from trivet.data.sources import read_dataset
from trivet.data.sources.shape_rows import ShapeRows


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_digits(
        tmp_path_factory.mktemp("drawn"), images={"train": 24, "val": 9}, classes=4, size_hw=(96, 128)
    )


def splits_with(drawn, order):
    """The drawn set with the training masks in another order, scaled to their images."""
    splits = read_dataset(drawn, task="segmentation")
    return replace(splits, train=replace(splits.train, masks=Reordered(splits.train.masks, order)))


class Reordered:
    """Masks of other images, brought to the image's size without interpolation."""

    def __init__(self, masks, order):
        self.masks, self.order = masks, order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        mask, size_hw = self.masks[int(self.order[index])], self.masks[index].shape
        rows, columns = (np.arange(size_hw[a]) * mask.shape[a] // size_hw[a] for a in (0, 1))
        return mask[rows][:, columns]

    def take(self, indices):
        return Reordered(self.masks, self.order[indices])


def names_of(audit):
    return {finding.name: finding for finding in audit.findings}


class TestAlignment:
    def test_right_pairs(self, drawn):
        assert not {"masks-misaligned", "mask-of-another-image"} & set(
            names_of(audit_dataset(drawn, task="segmentation"))
        )

    def test_all_moved_on_by_one(self, drawn):
        found = names_of(audit_dataset(splits_with(drawn, np.roll(np.arange(24), 1))))
        assert found["masks-misaligned"].severity == "error"
        assert found["masks-misaligned"].evidence["p"] > 0.05

    def test_two_exchanged(self, drawn):
        counts = [
            len(set(np.unique(mask)))
            for mask in map(read_dataset(drawn, task="segmentation").train.masks.__getitem__, range(24))
        ]
        one, other = np.argsort(counts)[-2:]
        order = np.arange(24)
        order[[one, other]] = order[[other, one]]
        found = names_of(audit_dataset(splits_with(drawn, order)))
        assert "masks-misaligned" not in found
        assert found["mask-of-another-image"].evidence["images"] == 2

    def test_permutation_test(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(30, 30))
        assert permutation_p(noise + np.eye(30) * 3) == 0.001
        assert permutation_p(noise) > 0.01
        assert permutation_p(np.zeros((30, 30))) == 1.0


class TestPixels:
    @pytest.fixture
    def folder(self, tmp_path):
        rng = np.random.default_rng(0)
        for number in range(12):
            mask = np.zeros((40, 50), np.uint8)
            mask[:10] = 255
            mask[20:, 25:] = 1
            mask[39, 0] = 2 if number == 0 else 0
            for name, pixels in (
                ("images", rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)),
                ("masks", mask),
            ):
                (tmp_path / name).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
        (tmp_path / "classes.txt").write_text("0 ground\n1 tree\n2 speck\n3 ghost\n")
        return tmp_path

    def test_shares(self, folder):
        audit = audit_dataset(folder)
        found = names_of(audit)
        assert found["unlabelled-pixels"].severity == "warning"
        assert found["unlabelled-pixels"].evidence["share"] == pytest.approx(0.25)
        assert found["class-without-pixels"].evidence["classes"] == ["ghost"]
        assert found["rare-class"].evidence["classes"] == {
            "speck": {"share": pytest.approx(1 / (12 * 1500)), "images": 1}
        }
        assert found["class-imbalance"].evidence["ratio"] == pytest.approx((12 * 1000 - 1) / 1)
        classes = audit.to_json()["statistics"]["classes"]
        assert classes[1]["pixel_share"] == {"train": pytest.approx(1 / 3, abs=1e-6)}
        assert classes[1]["images"] == {"train": 12}
        assert "12 masks" in audit.text()

    def test_faults_of_reading_are_findings(self, folder):
        Image.fromarray(np.full((40, 50), 77, np.uint8)).save(folder / "masks/3.png")
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "masks/4.png")
        (folder / "masks/5.png").unlink()
        found = names_of(audit_dataset(folder))
        assert {"unknown-mask-value", "image-size-differs", "image-without-mask"} <= set(found)

    def test_masks_that_change_while_they_are_read(self, folder):
        splits = read_dataset(folder, val_share=0.0)
        third = next(i for i in range(12) if splits.train.name(i) == "images/3.png")
        (folder / "masks/3.png").write_bytes(b"no picture")
        found = names_of(audit_dataset(splits))
        assert found["mask-unusable"].evidence["masks"] == 1
        assert survey_masks(splits.train).counts[third].sum() == 0


class TestOutlines:
    def test_how_much_of_its_box_a_polygon_fills(self):
        rows = ShapeRows()
        box, triangle = [0.0, 0.0, 20.0, 0.0, 20.0, 30.0, 0.0, 30.0], [0.0, 0.0, 20.0, 0.0, 0.0, 30.0]
        for polygons in ([box], [triangle], [box, triangle], [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]]):
            rows.add_polygons(0, polygons, label=1, size_hw=(40, 50), area=None)
        shapes = rows.shapes(1)
        assert [box_fill(shapes, shape) for shape in range(4)] == [1.0, 0.5, None, None]

    @pytest.mark.slow
    def test_the_competition_sample(self, shared_data):
        audit = audit_dataset(shared_data / "trash_competition_sample", task="segmentation")
        found = names_of(audit)
        overlap = found["overlapping-labels"]
        assert overlap.severity == "warning"
        assert next(iter(overlap.evidence["pixels_by_pair"])) == "General trash / Plastic bag"
        assert overlap.evidence["examples"][0] == "image/0003.jpg: 2.35%"
        assert found["class-without-pixels"].evidence["classes"] == ["Battery"]


class TestSequences:
    @pytest.mark.parametrize(
        ("name", "sequence"),
        [
            ("train/0016E5_00390.png", "0016E5"),
            ("0006R0_f03930.jpg", "0006R0_f"),
            ("BloodImage_00004.jpg", "BloodImage"),
            ("000000000009.jpg", None),
            ("2007_000027.jpg", None),
            ("portrait.jpg", None),
        ],
    )
    def test_names(self, name, sequence):
        assert sequence_of(name) == sequence

    @pytest.mark.slow
    def test_camvids_own_leaks(self, shared_data):
        leak = names_of(audit_dataset(shared_data / "camvid"))["sequence-across-splits"]
        assert leak.evidence["images"] == {
            "0001TP": {"train": 62, "test": 62},
            "0016E5": {"train": 204, "val": 101},
        }

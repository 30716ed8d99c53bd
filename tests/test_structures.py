import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import UsageError
from trivet.structures import (
    Batch,
    BoxTarget,
    Detections,
    FeatureSpec,
    LabelMap,
    Placement,
    PredictionTable,
    Sample,
    TruthTable,
)


def table(counts: list[int]) -> TruthTable:
    boxes = sum(counts)
    return TruthTable(
        np.arange(10, 10 + len(counts)),
        np.full((len(counts), 2), 50, np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.arange(boxes * 4, dtype=np.float32).reshape(boxes, 4),
        np.arange(boxes),
        np.zeros(boxes, np.bool_),
        np.ones(boxes, np.float32),
    )


class TestFeatureSpec:
    def test_level(self):
        assert FeatureSpec(64, 8).level == 3

    @pytest.mark.parametrize("stride", [0, 3, -8])
    def test_a_stride_is_a_power_of_two(self, stride):
        with pytest.raises(UsageError, match=f"power of two, got stride={stride}"):
            FeatureSpec(8, stride)

    def test_there_is_a_channel(self):
        with pytest.raises(UsageError, match="got channels=0"):
            FeatureSpec(0, 8)


class TestLabelMap:
    def test_json_round_trip_in_any_order(self):
        labels = LabelMap(("cat", "dog"), (17, "dog"))
        assert LabelMap.from_json(labels.to_json()[::-1]) == labels
        assert labels.label_of_file_id() == {17: 0, "dog": 1}

    @pytest.mark.parametrize(
        ("names", "ids", "message"),
        [
            ((), (), "at least one class"),
            (("a",), (1, 2), "1 names and 2 ids"),
            (("a", "a"), (1, 2), "the name 'a' more than once"),
            (("a", "b"), (3, 3), "the file id '3' more than once"),
        ],
    )
    def test_faults(self, names, ids, message):
        with pytest.raises(UsageError, match=message):
            LabelMap(names, ids)

    @pytest.mark.parametrize("rows", [[{"label": 0}], [{"label": 1, "name": "a", "file_id": 1}]])
    def test_rows_that_are_no_label_map(self, rows):
        with pytest.raises(UsageError, match="label map"):
            LabelMap.from_json(rows)


class TestPlacement:
    @given(
        st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
        st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)),
        st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
        st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5),
    )
    def test_boxes_come_back(self, original_hw, scale_yx, offset_yx, shares):
        place = Placement(original_hw, scale_yx, offset_yx)
        height, width = original_hw
        boxes = torch.tensor(shares, dtype=torch.float64).reshape(len(shares), 4)
        boxes = boxes * torch.tensor([width, height, width, height])
        back = place.to_original(place.from_original(boxes))
        torch.testing.assert_close(back, boxes, rtol=1e-9, atol=1e-6)

    def test_what_sticks_out_is_cut(self):
        place = Placement((10, 20), (2.0, 2.0))
        assert place.to_original(torch.tensor([[-4.0, 2.0, 100.0, 50.0]])).tolist() == [[0, 1, 20, 10]]

    def test_a_scale_is_positive(self):
        with pytest.raises(UsageError, match="positive scale"):
            Placement((10, 10), (0.0, 1.0))


class TestTables:
    def test_rows_and_images(self):
        truth = table([2, 0, 3])
        assert len(truth) == 3
        assert truth.rows(2) == slice(2, 5)
        assert truth.image_index().tolist() == [0, 0, 2, 2, 2]

    @given(st.lists(st.integers(0, 4), max_size=6), st.data())
    def test_take_keeps_every_images_boxes(self, counts, data):
        truth = table(counts)
        chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=6)) if counts else []
        taken = truth.take(chosen)
        assert len(taken) == len(chosen)
        for position, index in enumerate(chosen):
            assert taken.labels[taken.rows(position)].tolist() == truth.labels[truth.rows(index)].tolist()

    def test_columns_agree(self):
        truth = table([2])
        with pytest.raises(UsageError, match=r"crowd is \(2,\) here, got \(1,\)"):
            TruthTable(
                truth.image_ids,
                truth.sizes_hw,
                truth.offsets,
                truth.boxes_xyxy,
                truth.labels,
                truth.crowd[:1],
                truth.areas,
            )

    def test_predictions_of_no_image(self):
        assert len(PredictionTable.from_detections([], [])) == 0

    def test_predictions_keep_their_image(self):
        one = Detections(torch.rand(2, 4), torch.rand(2), torch.tensor([1, 0]))
        joined = PredictionTable.from_detections([7, 8, 9], [one, Detections.empty(), one])
        assert joined.image_ids.tolist() == [7, 7, 9, 9]


class TestSamplesAndBatches:
    def sample(self, **given):
        values = {
            "image": np.zeros((4, 6, 3), np.uint8),
            "boxes_xyxy": np.zeros((1, 4), np.float32),
            "labels": np.zeros(1, np.int64),
            "crowd": np.zeros(1, np.bool_),
            "image_id": 1,
            "name": "a.jpg",
            "placement": Placement((4, 6)),
        }
        return Sample(**(values | given))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"image": np.zeros((4, 6), np.uint8)},
                r"a\.jpg: a sample's image is uint8 \[h, w, 3\], got uint8 \(4, 6\)",
            ),
            ({"image": np.zeros((4, 6, 3), np.float32)}, "got float32"),
            ({"labels": np.zeros(2, np.int64)}, "one box, label and crowd flag an object"),
            ({"mask": np.zeros((5, 6), np.int64)}, r"the mask is \(5, 6\) but the image is \(4, 6\)"),
        ],
    )
    def test_a_sample_fits_together(self, given, message):
        with pytest.raises(UsageError, match=message):
            self.sample(**given)

    def test_a_batch_has_one_of_everything_an_image(self):
        target = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        with pytest.raises(UsageError, match="a batch of 2 images needs as many targets"):
            Batch(
                torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
                (target,),
                torch.tensor([1, 2]),
                ("a", "b"),
                (Placement((4, 4)),) * 2,
            )

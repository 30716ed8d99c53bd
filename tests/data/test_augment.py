"""Augmentation: boxes stay right, sizes exact, randomness from the generator alone."""

import json
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace

import albumentations
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.drawn_samples import assert_boxes_fit_mask, bounds, painted, painted_samples
from trivet.data.augment import ORIENTATIONS, STRENGTHS, DefaultAugmentation, _adapted, build_augmentation
from trivet.data.letterbox import letterbox
from trivet.errors import UsageError

SIZE_HW = (72, 56)
SEEDS = st.integers(0, 2**31)
# Axis-parallel, so that a box can be compared with what the mask shows.
COMPOSES = {
    "flips": [albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)],
    "crop": [albumentations.RandomResizedCrop((40, 50), scale=(0.4, 1.0), p=1)],
    "turns": [albumentations.D4(p=1)],
    "pad": [albumentations.PadIfNeeded(120, 120, border_mode=0, fill_mask=255)],
    "nested": [
        albumentations.OneOf([albumentations.Transpose(p=1), albumentations.HorizontalFlip(p=1)], p=0.7)
    ],
}
BOX_PARAMS = {
    "none": None,
    "coco": albumentations.BboxParams(format="coco", label_fields=["classes"]),
    "visibility": albumentations.BboxParams(format="yolo", min_visibility=0.4, label_fields=["a", "b"]),
}
BUILT = {
    (name, orientation): build_augmentation(name, size_hw=SIZE_HW, orientation=orientation)
    for name in STRENGTHS
    for orientation in ORIENTATIONS
}


def draw(augmentation, sample, seed=0):
    return augmentation(sample, np.random.default_rng(seed))


def assert_same(one, other):
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.labels, other.labels)


class TestDefault:
    @pytest.mark.parametrize("which", BUILT)
    @settings(max_examples=40)
    @given(sample=painted_samples(), seed=SEEDS)
    def test_boxes_follow_the_mask(self, which, sample, seed):
        result = draw(BUILT[which], sample, seed)
        assert result.image.shape == (*SIZE_HW, 3)
        assert result.image.flags.c_contiguous
        assert_boxes_fit_mask(result)
        # Nothing that shows much of itself has lost its box.
        for number in set(np.unique(result.mask)) - {0, 255} - set(result.labels):
            shown = bounds(result.mask == number)
            assert (
                min(shown[2:] - shown[:2]) <= 2
                or (shown[2:] - shown[:2]).prod() < 0.6 * SIZE_HW[0] * SIZE_HW[1]
            )

    @settings(max_examples=40)
    @given(seed=SEEDS)
    def test_boxes_follow_the_pixels(self, seed):
        sample = painted((120, 160), [(40, 30, 100, 70)])
        result = draw(BUILT["strong", "free"], sample, seed)
        grey = result.image.mean(axis=2)
        inside = np.zeros(SIZE_HW, bool)
        left, top, right, bottom = result.boxes_xyxy[0].round().astype(int)
        inside[top:bottom, left:right] = True
        # Blur carries the padding's grey a few pixels into the picture.
        picture = cv2.erode((result.mask != 255).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        bright = grey > (np.median(grey[inside]) + np.percentile(grey[~inside], 10)) / 2
        wrong = (bright != inside) & picture
        assert wrong.sum() <= 0.25 * inside.sum()

    @given(sample=painted_samples().filter(lambda sample: len(sample.labels)), seed=SEEDS)
    def test_keeps_an_object(self, sample, seed):
        assert len(draw(DefaultAugmentation(SIZE_HW, 1.0, min_side=0.0), sample, seed).labels) >= 1

    def test_drops_what_is_hardly_visible(self):
        augmentation = DefaultAugmentation((64, 64), 1.0)
        sample = painted((64, 64), [(0, 0, 8, 8), (20, 20, 60, 60)])
        results = [draw(augmentation, sample, seed) for seed in range(200)]
        assert {len(result.labels) for result in results} == {1, 2}

    def test_empty_image(self):
        result = draw(BUILT["strong", "free"], painted((50, 30)))
        assert result.boxes_xyxy.shape == (0, 4)
        assert result.labels.dtype == np.int64

    def test_hostile_boxes_go(self):
        sample = painted((50, 50), [(5, 5, 20, 20)] * 4)
        boxes = sample.boxes_xyxy.copy()
        boxes[1:] = [[np.nan, 1, 2, 3], [9, 9, 9, 20], [30, 30, 10, 10]]
        for augmentation in BUILT.values():
            result = draw(augmentation, replace(sample, boxes_xyxy=boxes))
            assert result.labels.tolist() == [1]
            assert np.isfinite(result.boxes_xyxy).all()

    def test_crowd_stays_crowd(self):
        sample = painted((60, 60), [(5, 5, 25, 25), (30, 30, 50, 50)], crowd=[1])
        results = [draw(BUILT["medium", "upright"], sample, seed) for seed in range(20)]
        assert all((result.crowd == (result.labels == 2)).all() for result in results)
        assert any(result.crowd.any() for result in results)

    @pytest.mark.parametrize("which", BUILT)
    def test_the_generator_decides_everything(self, which):
        sample = painted((60, 80), [(5, 5, 25, 25)])
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
        first = [draw(BUILT[which], sample, seed) for seed in (1, 2, 1)]
        assert_same(first[0], first[2])
        assert which[0] == "none" or not np.array_equal(first[0].image, first[1].image)
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tolist() == before[1]
        assert torch.equal(torch.random.get_rng_state(), before[2])

    @pytest.mark.parametrize(("orientation", "ways"), [("fixed", 1), ("upright", 2), ("free", 8)])
    def test_ways_an_image_may_lie(self, orientation, ways):
        # The corner object's neighbours along both sides tell the eight ways apart.
        sample = painted((64, 64), [(0, 0, 10, 10), (20, 0, 64, 10), (0, 20, 10, 64)])
        augmentation = DefaultAugmentation((64, 64), 0.05, orientation=orientation, min_visible=0.0)
        seen = set()
        for seed in range(120):
            result = draw(augmentation, sample, seed)
            centres = (result.boxes_xyxy[:, :2] + result.boxes_xyxy[:, 2:]) / 2
            assert result.labels.tolist() == [1, 2, 3]
            seen.add(tuple(np.sign((centres[1:] - centres[0]).round(-1).ravel())))
        assert len(seen) == ways

    @pytest.mark.parametrize("which", BUILT)
    def test_travels_to_workers_that_are_not_forked(self, which):
        sample = painted((60, 80), [(5, 5, 25, 25)])
        assert_same(draw(pickle.loads(pickle.dumps(BUILT[which])), sample), draw(BUILT[which], sample))

    def test_stronger_changes_more(self):
        sample = painted((64, 64), [(20, 20, 40, 40)])
        spread = {}
        for name in ("light", "medium", "strong"):
            results = [draw(BUILT[name, "upright"], sample, seed) for seed in range(60)]
            spread[name] = np.std([np.diff(result.boxes_xyxy[0][[0, 2]]) for result in results])
        assert spread["light"] < spread["medium"] < spread["strong"]


class TestCompose:
    @pytest.mark.parametrize("params", BOX_PARAMS)
    @pytest.mark.parametrize("name", COMPOSES)
    @settings(max_examples=25)
    @given(sample=painted_samples(), seed=SEEDS)
    def test_boxes_follow_the_mask(self, name, params, sample, seed):
        compose = albumentations.Compose(COMPOSES[name], bbox_params=BOX_PARAMS[params])
        result = draw(build_augmentation(compose, size_hw=SIZE_HW), sample, seed)
        assert result.image.shape == (*SIZE_HW, 3)
        assert_boxes_fit_mask(result, tolerance=1.6)  # two resizes, each right to half a pixel

    def test_turned_box_holds_its_object(self):
        compose = albumentations.Compose([albumentations.Rotate((30, 30), p=1)])
        sample = painted((60, 60), [(20, 24, 40, 36)])
        result = draw(build_augmentation(compose, size_hw=(60, 60)), sample)
        shown = bounds(result.mask == 1)
        assert (result.boxes_xyxy[0][:2] <= shown[:2] + 1).all()
        assert (result.boxes_xyxy[0][2:] >= shown[2:] - 1).all()

    def test_visibility_limit_is_the_users(self):
        sample = painted((40, 80), [(30, 0, 50, 20)])
        crop = albumentations.Crop(0, 0, 35, 40)
        for limit, kept in ((0.2, 1), (0.3, 0)):
            params = albumentations.BboxParams(format="coco", min_visibility=limit)
            compose = albumentations.Compose([crop], bbox_params=params)
            assert len(draw(build_augmentation(compose, size_hw=SIZE_HW), sample).labels) == kept

    def test_two_coins_are_two_coins(self):
        compose = albumentations.Compose(COMPOSES["flips"])
        augmentation = build_augmentation(compose, size_hw=(40, 40))
        sample = painted((40, 40), [(0, 0, 5, 5)])
        corners = {tuple(draw(augmentation, sample, seed).boxes_xyxy[0]) for seed in range(40)}
        assert len(corners) == 4

    def test_single_transform_and_empty_image(self):
        augmentation = build_augmentation(albumentations.HorizontalFlip(p=1), size_hw=(40, 40))
        assert draw(augmentation, painted((40, 40))).boxes_xyxy.shape == (0, 4)
        assert draw(augmentation, painted((40, 40), [(0, 0, 10, 10)])).boxes_xyxy.tolist() == [
            [30, 0, 40, 10]
        ]

    def test_the_users_compose_is_not_changed(self):
        compose = albumentations.Compose([albumentations.HorizontalFlip(p=0.5)], seed=3)
        state = compose.random_generator.bit_generator.state
        draw(build_augmentation(compose, size_hw=(40, 40)), painted((40, 40)))
        assert compose.random_generator.bit_generator.state == state
        assert "bboxes" not in compose.processors

    @pytest.mark.parametrize(
        "transform", [albumentations.ToFloat(), albumentations.Normalize(), albumentations.ToTensorV2()]
    )
    def test_what_is_not_uint8_is_refused(self, transform):
        augmentation = build_augmentation(albumentations.Compose([transform]), size_hw=(40, 40))
        if isinstance(transform, albumentations.ToTensorV2):
            augmentation = build_augmentation(
                albumentations.Compose([albumentations.ToFloat(), transform]), size_hw=(40, 40)
            )
        with pytest.raises(UsageError, match=r"uint8 images, got (torch\.)?float32\nleave Normalize"):
            draw(augmentation, painted((40, 40)))


class TestCallable:
    def test_is_letterboxed_and_cleaned(self):
        def shift(sample):
            return replace(sample, boxes_xyxy=sample.boxes_xyxy + 30)

        result = draw(
            build_augmentation(shift, size_hw=(80, 40)), painted((40, 40), [(0, 0, 20, 20), (15, 0, 40, 20)])
        )
        assert result.boxes_xyxy.tolist() == [[30, 30, 40, 40]]
        assert result.image.shape == (80, 40, 3)

    def test_global_randomness_is_seeded_and_put_back(self):
        def noise(sample):
            level = random.random() + np.random.rand() + torch.rand(1).item()
            return replace(sample, image=np.full_like(sample.image, int(level * 80)))

        augmentation = build_augmentation(noise, size_hw=(20, 20))
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        expected = random.random(), np.random.rand(), torch.rand(1).item()
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        levels = [int(draw(augmentation, painted((20, 20)), seed).image[0, 0, 0]) for seed in (1, 2, 1)]
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
        assert levels[0] == levels[2] != levels[1]

    def test_wrong_result(self):
        with pytest.raises(UsageError, match="returns a Sample, got tuple"):
            draw(build_augmentation(lambda sample: (sample, 1), size_hw=(20, 20)), painted((20, 20)))


class TestBuild:
    @pytest.mark.parametrize("nothing", [None, "none", 0.0])
    def test_nothing_is_letterboxing(self, nothing):
        sample = painted((30, 50), [(4, 4, 9, 9)])
        result = draw(build_augmentation(nothing, size_hw=SIZE_HW), sample)
        expected = letterbox(sample, size_hw=SIZE_HW)
        assert_same(result, expected)
        assert result.placement == expected.placement

    def test_a_built_one_is_taken_as_it_is(self):
        own = DefaultAugmentation((32, 32), 0.5, min_visible=0.7)
        assert build_augmentation(own, size_hw=(32, 32)) is own

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("mediun", r"unknown augmentation 'mediun'; did you mean 'medium'\?"),
            (1.5, "strength is from 0 to 1, got 1.5"),
            (-0.1, "strength is from 0 to 1, got -0.1"),
            (DefaultAugmentation((8, 8)), r"made for size_hw=\(8, 8\), got size_hw=\(72, 56\)"),
        ],
    )
    def test_what_is_refused(self, given, message):
        with pytest.raises(UsageError, match=message):
            build_augmentation(given, size_hw=SIZE_HW)

    def test_no_callable(self):
        with pytest.raises(UsageError, match="or a callable, got list"):
            _adapted(["medium"])

    def test_unknown_orientation(self):
        with pytest.raises(UsageError, match=r"unknown orientation 'uprite'; did you mean 'upright'\?"):
            build_augmentation("light", size_hw=SIZE_HW, orientation="uprite")
        with pytest.raises(UsageError, match="unknown orientation 'upside down'"):
            DefaultAugmentation(SIZE_HW, orientation="upside down")


def test_albumentations_is_imported_late_and_quietly():
    code = """
import json, os, sys, urllib.request
def refuse(*a, **k): raise AssertionError("the network was asked")
urllib.request.OpenerDirector.open = refuse
import trivet.data.augment
early = "albumentations" in sys.modules
trivet.data.augment.build_augmentation("light", size_hw=(8, 8))
print(json.dumps([early, "albumentations" in sys.modules, os.environ.get("NO_ALBUMENTATIONS_UPDATE")]))
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [False, True, None]

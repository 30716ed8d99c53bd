"""Fixtures that tests of several parts share."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has a core of its own: threads of several would wait for one another, and spin.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from trivet.data.digits import write_digits
from trivet.recipe.fit import FitResult, fit

# The same examples every time: a suite that passed passes again. `--hypothesis-seed` draws others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

QUICK = {
    "train.epochs": 2,
    "train.batch": 4,
    "train.validations": 2,
    "model.size_hw": (64, 96),
    "model.pretrained": False,
    "model.options": {"channels": 16, "layers": 1, "tower_layers": 1},
    "data.workers": 0,
}
"""Recipe values of a run that takes seconds and learns nothing."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets that lies beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not there ({folder})")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    return write_digits(
        tmp_path_factory.mktemp("digits"),
        images={"train": 12, "val": 5, "test": 4},
        classes=3,
        size_hw=(80, 120),
    )


@pytest.fixture(scope="session")
def quick_run(digits, tmp_path_factory) -> FitResult:
    return fit(digits, QUICK, out=tmp_path_factory.mktemp("runs"), name="quick", listeners=())

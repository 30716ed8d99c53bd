"""effdet's anchors as the oracle."""

import importlib
import warnings

import pytest


@pytest.fixture(scope="session")
def effdet_anchors() -> type:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("effdet.anchors").Anchors

"""Tests of compiled kernels are skipped where there is no compiler, and fail where there is one but no kernels."""

import shutil

import pytest

from trivet.models.kernels.library import kernels, kernels_status

needs_kernels = pytest.mark.skipif(
    kernels() is None and shutil.which("gcc") is None, reason="no C compiler on this machine"
)


def test_there_are_kernels_where_there_is_a_compiler():
    if shutil.which("gcc"):
        assert kernels() is not None, kernels_status()

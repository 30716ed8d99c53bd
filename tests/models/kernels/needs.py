"""Tests of compiled kernels run where there are some; `test_library` fails where a compiler is there but no kernels."""

import pytest

from trivet.models.kernels.library import kernels, kernels_status

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernels_status())

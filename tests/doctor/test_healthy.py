"""Healthy programs give no finding of severity error, and hardly a warning."""

import pytest

from tests.doctor.healthy import SOURCES
from tests.doctor.test_faults import diagnose_source


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_no_warning_on_a_healthy_program(name, tmp_path):
    found = diagnose_source(SOURCES[name], tmp_path).findings
    assert [f"{finding.name}: {finding.title}" for finding in found if finding.severity != "note"] == []

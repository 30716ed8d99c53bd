"""Every fault is found by its name, object and line; its mended program is silent."""

import pytest

from tests.doctor.data_programs import DATA_PROGRAMS
from tests.doctor.programs import PROGRAMS as STRUCTURE_PROGRAMS
from tests.doctor.programs import Program
from tests.doctor.programs_parts import PART_PROGRAMS
from tests.doctor.programs_phases import PHASE_PROGRAMS
from tests.doctor.programs_signals import SIGNAL_PROGRAMS
from trivet.doctor.checks import CHECKS
from trivet.doctor.diagnosis import Diagnosis, diagnose_trace
from trivet.doctor.run import record_script

PROGRAMS = [*STRUCTURE_PROGRAMS, *SIGNAL_PROGRAMS, *PHASE_PROGRAMS, *PART_PROGRAMS]
WITHOUT_PROGRAM = {"script-failed", "label-off-by-one"}


def diagnose_source(source: str, folder) -> Diagnosis:
    script = folder / "script.py"
    script.write_text(source)
    trace, _ = record_script(str(script))
    assert trace.faults == []
    return diagnose_trace(trace)


def named(programs: list[Program]):
    counts: dict[str, int] = {}
    for program in programs:
        counts[program.finding] = counts.get(program.finding, 0) + 1
        yield pytest.param(program, id=f"{program.finding}-{counts[program.finding]}")


@pytest.mark.parametrize("program", list(named(PROGRAMS)))
def test_fault_leads_with_its_line(program, tmp_path):
    found = diagnose_source(program.faulty, tmp_path).findings
    assert [finding.name for finding in found][:1] == [program.finding]
    if program.line is not None:
        assert found[0].where.line == program.line
    if program.object:
        assert found[0].where.object is not None
        assert found[0].where.object.startswith(program.object)


@pytest.mark.slow
@pytest.mark.parametrize("program", list(named(PROGRAMS)))
def test_mended_program_is_silent(program, tmp_path):
    found = diagnose_source(program.mended, tmp_path).findings
    assert [finding.name for finding in found if finding.severity != "note"] == []


def test_every_check_has_a_program():
    programs = [*PROGRAMS, *DATA_PROGRAMS]
    assert CHECKS.keys() - {program.finding for program in programs} == WITHOUT_PROGRAM

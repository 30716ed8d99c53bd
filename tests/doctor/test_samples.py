"""Faults of how samples are made, batched and split: found by name and line; the mended twin, and what only looks so, is not."""

import pytest
import torch

from tests.doctor.programs import HEAD, Program
from tests.doctor.programs_samples import HEALTHY_SAMPLES, SAMPLE_PROGRAMS
from tests.doctor.test_faults import diagnose_source, named
from trivet.doctor.checks import data, parameters
from trivet.doctor.probe.data.collating import parts_samples
from trivet.doctor.trace import OptimizerTrace, Trace
from trivet.doctor.trace_data import LeakTrace, SplitTrace
from trivet.doctor.trace_model import ParameterTrace


@pytest.mark.parametrize("program", list(named(SAMPLE_PROGRAMS)))
def test_fault_leads_with_its_line(program: Program, tmp_path):
    found = diagnose_source(program.faulty, tmp_path).findings
    assert [finding.name for finding in found][:1] == [program.finding]
    if program.line is not None:
        assert found[0].where.line == program.line


@pytest.mark.parametrize("program", list(named(SAMPLE_PROGRAMS)))
def test_mended_program_does_not_have_it(program: Program, tmp_path):
    assert program.finding not in [f.name for f in diagnose_source(program.mended, tmp_path).findings]


@pytest.mark.parametrize("body", HEALTHY_SAMPLES.values(), ids=HEALTHY_SAMPLES)
def test_what_only_looks_like_a_fault_is_none(body: str, tmp_path):
    found = diagnose_source(HEAD + body, tmp_path).findings
    assert [f.name for f in found if f.severity == "error"] == []


def test_parts_of_samples_are_followed_into_the_batch():
    samples = [(torch.full((3,), float(i)), {"id": i}, i % 2) for i in range(6)]
    images, kinds = torch.stack([image for image, *_ in samples]), torch.tensor([s[2] for s in samples])
    swapped = images[[1, 0, 2, 3, 4, 5]]
    assert parts_samples(samples, (swapped, kinds))
    assert not parts_samples(samples, (images, kinds))
    assert not parts_samples(samples, (swapped, kinds[[1, 0, 2, 3, 4, 5]]))
    assert not parts_samples(samples, (images[[2, 1, 0, 3, 4, 5]], kinds))  # of one kind: nothing is wrong
    assert not parts_samples(samples, (swapped, kinds, torch.tensor([1, 0, 2, 3, 4, 5])))
    assert not parts_samples(samples, (images * 0.5 + swapped * 0.5, kinds))
    assert not parts_samples(samples, swapped)


@pytest.mark.parametrize(
    ("split", "severity"),
    [
        (SplitTrace(None, 100, 30, 1), "error"),  # indices
        (SplitTrace(None, 100, 15, 1), "warning"),
        (SplitTrace(None, 100, 30, 12), "warning"),  # rows of a table, which may be equal by chance
        (SplitTrace(None, 100, 12, 3 * 32 * 32), "error"),  # pictures
        (SplitTrace(None, 100, 9, 3 * 32 * 32), None),
        (SplitTrace(None, 8, 4, 1), None),
    ],
)
def test_equal_samples_on_both_sides_of_a_split(split, severity):
    trace = Trace()
    trace.data.splits, trace.data.leaks = [split], [LeakTrace("model", None)]
    assert [f.severity for f in data.train_val_leak(trace)] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("idle", "trained", "told"),
    [
        ("norms.0.4", "norms.0.3", False),  # a level of a pyramid that no object is of the size for
        ("experts.1", "experts.0", False),
        ("gate", "norms.0.3", True),
    ],
)
def test_places_of_a_numbered_list_may_go_without_a_gradient(idle, trained, told):
    def parameter(name, norms, *, changed):
        record = ParameterTrace(
            f"model.{name}.weight", "model", name, [4], 4, True, optimizers=[0], changed=changed
        )
        record.with_gradient, record.with_nonzero, record.alive = 20, norms, True
        return record

    trace = Trace(steps=20, optimizers=[OptimizerTrace("SGD", None)])
    trace.parameters = [parameter(idle, 0, changed=False), parameter(trained, 20, changed=True)]
    found = [f for f in parameters.parameter_never_changes(trace) if "exactly 0" in f.title]
    assert bool(found) == told

"""Proves the findings of a watched training by experiment, with the steps that were caught while it ran."""

from collections.abc import Callable
from dataclasses import replace

from trivet.doctor.catch import Catch
from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.experiment import UnprovableError, prove
from trivet.doctor.finding import Finding
from trivet.doctor.fixes import FIXES

FEWEST_STEPS = 2
Tell = Callable[[str], object]


def prove_findings(
    diagnosis: Diagnosis, catch: Catch, seconds: float = 60.0, *, tell: Tell | None = None
) -> Diagnosis:
    """Judge by paired re-training which findings are the cause (see `experiment.prove`).

    Modules and optimizer of the script are as they were afterwards, to the bit.

    Args:
        diagnosis: What was found.
        catch: What was caught meanwhile; the experiments begin in the state before the first step.
        seconds: Budget of time for all experiments together.
        tell: Called with what is being done.

    Returns:
        The diagnosis with verdicts; `not_checked` says what could not be put to the test (`proof of NAME`), and why.
    """
    wanted = [finding for finding in diagnosis.findings if finding.severity != "note"]
    reasons = {
        f"proof of {finding.name}": "what it is about cannot be set right on live objects"
        for finding in wanted
        if finding.name not in FIXES
    }
    trials = [finding for finding in wanted if finding.name in FIXES]
    proven: dict[int, Finding] = {}
    for finding in trials:
        try:
            if tell is not None:
                tell(f"doctor: re-training with and without the remedy of {finding.name} ...")
            proven[id(finding)] = _prove(finding, catch, seconds / len(trials))
        except UnprovableError as fault:
            reasons[f"proof of {finding.name}"] = str(fault)
        except Exception as fault:  # the user's code, repeated
            reasons[f"proof of {finding.name}"] = (
                f"a step cannot be repeated: {type(fault).__name__}: {fault}"
            )
    findings = [proven.get(id(finding), finding) for finding in diagnosis.findings]
    return replace(diagnosis, findings=findings, not_checked={**diagnosis.not_checked, **reasons})


def _prove(finding: Finding, catch: Catch, seconds: float) -> Finding:
    model = catch.replayed()
    if len(catch.steps) < FEWEST_STEPS or catch.optimizer is None or catch.start is None:
        raise UnprovableError(
            "at least two steps on different samples are wanted, to train on and to judge by"
        )
    experiment = prove(
        finding,
        model,
        [(step, step) for step in catch.steps],
        lambda played, _: played.loss,
        catch.optimizer,
        seconds=seconds,
        score=lambda played, _: played.scores(),
        start=catch.start.put,
    )
    return experiment.apply_to(finding)

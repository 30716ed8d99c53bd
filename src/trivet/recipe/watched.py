"""Training under the doctor's eye."""

from collections.abc import Mapping
from typing import Any

from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.watch import is_watching, watch
from trivet.recipe.run import Plan, train_run

PROOF_SECONDS = 120.0
"""Budget of time for experiments, where proofs are asked for."""


def train_watched(plan: Plan, *, prove: bool = False) -> Diagnosis | None:
    """Train as a recipe says, and diagnose it.

    Args:
        plan: What to train, and how.
        prove: Judge what is found by paired re-training of the run's first steps.

    Returns:
        `None` where nothing is watched: training in several processes, or in one that is watched already.
    """
    if plan.recipe.machine.devices > 1 or is_watching():
        train_run(plan)
        return None
    with watch(trace_first_step=False, prove=prove) as doctor:
        train_run(plan)
    return doctor.proven(PROOF_SECONDS) if prove else doctor.diagnose()


def findings_json(audit: Mapping[str, Any], watched: Diagnosis | None) -> dict[str, Any]:
    """Join what the audit wrote of itself with the doctor's cost and what it did not check."""
    not_checked = [{"name": item["check"], "reason": item["why"]} for item in audit.get("not_checked", ())]
    cost = {"seconds": 0.0, "share": 0.0}
    if watched is not None:
        cost = {"seconds": watched.cost.seconds, "share": watched.cost.share}
        not_checked += [{"name": name, "reason": reason} for name, reason in watched.not_checked.items()]
    seconds = audit.get("cost", {}).get("seconds", 0.0)
    return {**audit, "cost": {**cost, "audit_seconds": seconds}, "not_checked": not_checked}

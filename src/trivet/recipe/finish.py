"""After training: predictions, scores and the page."""

import json
import shlex
from collections.abc import Sequence

from trivet.data.dataset import Splits
from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.finding import Finding, by_importance
from trivet.recipe.assess import ASSESSORS
from trivet.recipe.assessment import Assessment, Scores
from trivet.recipe.facts import data_facts
from trivet.recipe.overfitting import overfitting_findings
from trivet.recipe.run_folder import Run, RunFolder, load_run, write_json
from trivet.recipe.waiting import waiting_findings
from trivet.recipe.watched import findings_json
from trivet.report.contents import Choice, ReportContents
from trivet.report.page import write_report
from trivet.train.history import Row, read_history


def finish_run(
    folder: RunFolder, splits: Splits, findings: Sequence[Finding] = (), *, watched: Diagnosis | None = None
) -> Scores:
    """Score a run's best weights on the validation split and write predictions, scores, findings and the page.

    Args:
        folder: The run folder, after training.
        splits: The data set.
        findings: What the audit found.
        watched: What the doctor found while the model trained.
    """
    run = load_run(folder.path)
    assert splits.val is not None, "a run is prepared with a validation split"
    assessment = ASSESSORS[run.recipe.task.kind].assess(run, splits.val, keep=folder.path)
    write_json(folder.scores, assessment.scores.to_json())
    seen = watched.findings if watched is not None else []
    waited = waiting_findings(read_history(folder.history), run.recipe)
    learnt = overfitting_findings(run, splits.train, splits.val, assessment.scores)
    found = by_importance([*seen, *waited, *learnt, *findings])
    told = json.loads(folder.findings.read_text()) if folder.findings.is_file() else {}
    write_json(folder.findings, findings_json(told, watched) | {"findings": [one.to_json() for one in found]})
    write_report(folder.report, _contents(run, splits, assessment, found))
    return assessment.scores


def _contents(
    run: Run,
    splits: Splits,
    assessment: Assessment,
    findings: Sequence[Finding],
) -> ReportContents:
    environment = json.loads(run.folder.environment.read_text())
    command = environment.pop("command", "")
    return ReportContents(
        title=splits.train.root.name,
        task=run.recipe.task.kind,
        names=run.labels.names,
        scores=assessment.scores,
        history=[_numbers(row) for row in read_history(run.folder.history)],
        choices=_choices(run),
        facts=data_facts(splits, run.recipe.model.size_hw),
        problems=splits.problems,
        findings=findings,
        gallery=assessment.gallery(),
        environment=environment,
        command=command or shlex.join(["trivet", "fit", run.recipe.data.path]),
    )


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if not isinstance(value, str)}


def _choices(run: Run) -> list[Choice]:
    values = {
        f"{section}.{name}": value
        for section, content in run.recipe.model_dump(mode="json", exclude={"chosen"}).items()
        for name, value in content.items()
    }
    return [
        Choice(key, str(values[key]), "automatic" if who.by == "automatic" else "given", who.why)
        for key, who in run.recipe.chosen.items()
        if key in values
    ]

"""Puts the records of a probe together as a `Trace`."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from trivet.doctor.exceptions import describe_exception
from trivet.doctor.origins import (
    clipped_at,
    deaf_train_at,
    element_at,
    keyed_at,
    looked_up_at,
    value_at,
)
from trivet.doctor.probe.cuts import cut_in_source
from trivet.doctor.probe.describe import describe_failure
from trivet.doctor.probe.written import freezes_states_at, sets_attribute, written_at
from trivet.doctor.source import Place
from trivet.doctor.trace import Cost, ExceptionTrace, Trace
from trivet.doctor.trace_model import ModelTrace

if TYPE_CHECKING:
    from trivet.doctor.probe import Probe


def assemble(probe: "Probe") -> Trace:
    """Return the trace of what a probe has recorded."""
    watched = probe.session.watched_seconds
    finish = [probe.survey.note_calls, probe.ledger.look_for_change, probe.draws.finish]
    for act in [*([] if probe.survey.models else [probe.take_survey]), *finish]:
        with probe.session.shielded():
            act()
    trace = Trace(
        script=probe.script,
        steps=probe.session.steps,
        epochs=probe.schedulers.epochs,
        ended=probe.ended if probe.exception is None else "exception",
        torch=torch.__version__,
        compiled=probe.modules.compiled,
        models=list(probe.survey.models.values()),
        batch_norms=list(probe.survey.norms.values()),
        optimizers=[record.trace for record in probe.training.optimizers],
        recorded=probe.recorded[-400:],
        loss_curve=list(probe.training.curve),
        backward=probe.training.backward,
        losses=list(probe.losses.losses.values()),
        schedulers=[seen for _, seen in probe.schedulers.schedulers],
        loads=probe.modules.loads,
        scaler=probe.training.scaler,
        random=[*probe.draws.random.values(), *probe.noise.traces()],
        orders=list(probe.draws.orders.values()),
        poisoned=probe.poisoned,
        faults=probe.session.faults,
        cost=Cost(probe.session.spent, probe.session.spent / watched if watched else 0.0, watched),
    )
    for fill in (_fill_parameters, _fill_models, _fill_data, _fill_signals, _fill_exception):
        with probe.session.shielded():
            fill(probe, trace)
    return trace


def _fill_exception(probe: "Probe", trace: Trace) -> None:
    fault = probe.exception
    if fault is None:
        return
    trace.exception = ExceptionTrace(type(fault).__name__, str(fault))
    trace.exception = describe_exception(fault, probe.training.failed_forward, probe.training.failed_graph)
    if trace.exception.places[:1] != trace.exception.forward[:1] or not trace.exception.forward:
        trace.exception.failed = describe_failure(fault, probe.modules.place_of)


def _calls_of(probe: "Probe", root: nn.Module, model: str, parameters: list[str]) -> dict[str, Place]:
    """Where the parts of a model are called that some parameters are in."""
    found = {}
    for path, part in root.named_modules() if parameters else ():
        name = f"{model}.{path}"
        record = probe.modules.calls.get(id(part))
        place = record.place if record is not None and record.ref() is part else None
        if path and place is not None and any(parameter.startswith(f"{name}.") for parameter in parameters):
            found[name] = place
    return found


def _fill_data(probe: "Probe", trace: Trace) -> None:
    trace.data = probe.data.fill(probe.survey.names)
    trace.data.reseeded = probe.draws.reseeded()
    if trace.data.detections or trace.data.boxes:
        made = {key: keyed_at(probe.survey.files(), key) for key in ("boxes", "labels")}
        made["clipped"] = clipped_at(probe.survey.files())
        made["bbox"] = looked_up_at(probe.survey.files(), "bbox")
        trace.data.keyed = {key: place for key, place in made.items() if place is not None}


def _fill_signals(probe: "Probe", trace: Trace) -> None:
    for seen in trace.random:
        made = written_at(probe.survey.files(), sets_attribute(seen.attribute)) if seen.attribute else None
        seen.place = made or seen.place
    trace.data.outers = list(probe.terms.outers.values())
    probe.activations.fill(trace.relus, trace.layers)
    trace.backward.kept = probe.graphs.trace
    trace.backward.constant_terms = list(probe.terms.found.values())
    trace.backward.risks = list(probe.risks.risks.values())
    if probe.activations.broken is not None:
        module, place = probe.activations.broken
        trace.backward.broken_module, trace.backward.broken_at = type(module).__name__, place


def _fill_parameters(probe: "Probe", trace: Trace) -> None:
    for entry in probe.ledger.entries.values():
        record = entry.trace
        values = entry.ref()
        if record.with_gradient and not record.with_nonzero and values is not None and not bool(values.any()):
            record.zero_at = probe.fills.place_of_tensor(values) or record.place
        record.alive = entry.looked == probe.ledger.looks
        if entry.calls is not None:
            record.called = True
            record.called_with_gradient = bool(entry.calls.train_gradient or entry.calls.eval_gradient)
        elif entry.owner is not None and probe.modules.calls and not probe.modules.compiled:
            record.called = False
        unseen = (
            record.optimizers and record.observed >= 3 and not record.with_gradient and record.requires_grad
        )
        if unseen and record.cut is None and probe.training.backward.calls:
            words = [word for word in record.name.split(".")[1:] if word not in ("weight", "bias")]
            found = (
                cut_in_source(probe.survey.files(), word) for word in reversed(words) if word.isidentifier()
            )
            record.cut = next((place for place in found if place is not None), None)
        if record.place is None and not record.model and record.optimizers:
            optimizer = trace.optimizers[record.optimizers[0]]
            index = record.name.rpartition("[")[2].rstrip("]")
            record.place = element_at(optimizer.place, int(index)) if index.isdigit() else None
        trace.parameters.append(record)
    trace.backward.cuts = {f"{cut.operation} {cut.place}": cut.place for cut in probe.cuts.ordered()}


def _fill_models(probe: "Probe", trace: Trace) -> None:
    trace.state_freeze = freezes_states_at(probe.survey.files())
    trained = {p.model for p in trace.parameters if p.with_nonzero}
    for model in trace.models:
        model.trained = model.name in trained
    without = [p.name for p in trace.parameters if p.optimizers and p.observed and not p.with_gradient]
    for record in probe.modules.roots.values():
        owner = next((m for m in trace.models if m.name == record.name), None)
        if owner is None and record.new_norms:  # called after the last step, and gone by now
            owner = ModelTrace("averaged copy", "Module")
            trace.models.append(owner)
        if owner is None:
            continue
        owner.steps_in_train, owner.steps_in_eval = record.steps["train"], record.steps["eval"]
        owner.eval_after_train, owner.ever_eval = record.eval_after_train, record.ever_eval
        owner.evaluations_in_train = record.evaluations_in_train
        owner.unseen_in_train = record.unseen_in_train
        owner.evaluations_in_eval = record.evaluations_in_eval
        owner.evaluation_place, owner.new_norms = record.evaluation_place, record.new_norms
        owner.follows_at, owner.fed_at = record.follows_at, value_at(record.called_at)
        owner.eval_place = record.eval_in_training or record.switches.get(False)
        owner.train_place = record.switches.get(True) or owner.train_place
        root = record.ref()
        if root is not None:
            owner.called_at = _calls_of(probe, root, owner.name, without)
            switch = getattr(type(root).train, "__code__", None)
            owner.deaf_train = deaf_train_at(switch) if switch is not None else None
        if record.input is not None:
            record.input.model = owner.name
            trace.inputs.append(record.input)

"""Surveys the models: the names of parameters, what holds them, and the shape of their containers."""

import ast
import difflib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trivet.doctor.graph import walk_graph
from trivet.doctor.probe.fills import FillWatch
from trivet.doctor.probe.frozen import FrozenWatch
from trivet.doctor.probe.ledger import Ledger, is_lazy
from trivet.doctor.probe.modules import (
    BATCH_NORMS,
    CallRecord,
    ModuleWatch,
    depends_on_mode,
    has_new_statistics,
    mode_dependent_layers,
)
from trivet.doctor.probe.written import sets_attribute, sets_false, written_at
from trivet.doctor.source import statement, user_frames
from trivet.doctor.trace_model import BatchNormTrace, ModelTrace, RepeatedModule

MOST_NODES = 1000
CONTAINERS = (nn.Sequential, nn.ModuleList)


class Survey:
    """Names every live parameter and layer by the variable that holds its model."""

    def __init__(self, modules: ModuleWatch, ledger: Ledger, fills: FillWatch) -> None:
        self.modules = modules
        self.ledger = ledger
        self.fills = fills
        self.names: dict[int, str] = {}
        self._unnamed: set[int] = set()
        self.models: dict[str, ModelTrace] = {}
        self.frozen = FrozenWatch(modules.session)
        self.norms: dict[str, BatchNormTrace] = {}
        self._norm_calls: dict[str, CallRecord] = {}
        self._means: dict[str, torch.Tensor] = {}

    def name_of(self, root: nn.Module, variables: dict[int, str]) -> str:
        """Return a name for an outermost module, one of its own each; once named by a variable, it stays so."""
        known, given = self.names.get(id(root)), variables.get(id(root))
        if known is None or (given is not None and id(root) in self._unnamed):
            name = given or type(root).__name__.lower()
            taken = {value for key, value in self.names.items() if key != id(root)}
            self.names[id(root)] = name if name not in taken else f"{name}{len(taken)}"
            self._unnamed.discard(id(root)) if given else self._unnamed.add(id(root))
            if known is not None and known != self.names[id(root)]:
                self._rename(known, self.names[id(root)])
        return self.names[id(root)]

    def _rename(self, old: str, new: str) -> None:
        """Give what was recorded under the name of a class the name of the variable that holds it."""
        if old in self.models:
            self.models[new] = self.models.pop(old)
            self.models[new].name = new
        for name in [name for name in self.norms if name.startswith(f"{old}.")]:
            renamed = new + name.removeprefix(old)
            self.norms[renamed] = self.norms.pop(name)
            self.norms[renamed].name = renamed
            if name in self._norm_calls:
                self._norm_calls[renamed] = self._norm_calls.pop(name)
            if name in self._means:
                self._means[renamed] = self._means.pop(name)
        for _, entry in self.ledger.alive():
            if entry.trace.model == old:
                entry.trace.model = new
                entry.trace.name = new + entry.trace.name.removeprefix(old)

    def take(self, variables: dict[int, str]) -> None:
        """Survey all outermost modules that live now."""
        roots = self.modules.outermost()
        hidden = _hidden_modules(roots)
        for root in roots:
            if id(root) in hidden or next(root.parameters(), None) is None:
                continue
            name = self.name_of(root, variables)
            self._note_gone(root)
            self._survey_model(root, name)
            record = self.modules.roots.get(id(root))
            if record is not None and record.ref() is root:
                record.name = name
            for owner_path, attribute, index, kept in _kept_in_plain_containers(root):
                holder = f"{name}.{owner_path}{attribute}"
                if isinstance(kept, nn.Module):
                    self._enter(kept, f"{holder}[{index}]", name, holder)
                elif not is_lazy(kept):
                    self._enter_parameter(kept, f"{holder}[{index}]", name, holder)
            self._enter_plain_tensors(root, name)

    def _enter_plain_tensors(self, root: nn.Module, name: str) -> None:
        """Know the tensors that are attributes of modules and require a gradient, but are no parameters."""
        registered = {id(parameter) for parameter in root.parameters()}
        for path, module in root.named_modules():
            for attribute, value in list(vars(module).items()):
                if not isinstance(value, torch.Tensor) or not value.requires_grad:
                    continue
                holder = ".".join(part for part in (name, path, attribute) if part)
                if value.is_leaf:
                    self._enter_parameter(value, holder, name, holder)
                elif not self.modules.called and holder not in self.models[name].made_once:
                    place = written_at(self.files(), sets_attribute(attribute))
                    self.models[name].made_once[holder] = place
                    for leaf in walk_graph([value], most=MOST_NODES).leaves.values():
                        if isinstance(leaf, nn.Parameter) and id(leaf) not in registered:
                            self._enter_parameter(leaf, holder, name, holder)

    def _note_gone(self, root: nn.Module) -> None:
        """Mark the parameters that a model no longer holds, as those of a layer that was replaced."""
        held = {id(parameter) for parameter in root.parameters()}
        for tensor, entry in self.ledger.alive():
            if entry.root is not None and entry.root() is root:
                entry.trace.gone = id(tensor) not in held

    def _survey_model(self, root: nn.Module, name: str) -> None:
        trace = self.models.setdefault(name, ModelTrace(name, type(root).__name__))
        trace.place = trace.place or self.modules.place_of(root)
        trace.mode_dependent = depends_on_mode(root)
        trace.dropouts = sum(not isinstance(layer, BATCH_NORMS) for layer in mode_dependent_layers(root))
        self._enter(root, name, name, None)
        trace.frozen_norms.update(self.frozen.look(root, name))
        switched = self.modules.switched.get(id(root))
        if switched is not None and switched[0]() is root and switched[1]:
            trace.train_place = switched[2]
        if any(trace.frozen_norms.values()) and trace.freeze_place is None:
            trace.freeze_place = self.modules.frozen_at(root)
            trace.freeze_place = trace.freeze_place or written_at(self.files(), sets_false("requires_grad"))
        self._note_shared_norms(trace, root, name)
        for path, module in root.named_modules():
            full = f"{name}.{path}" if path else name
            if vars(module).get("requires_grad", True) is False and full not in trace.fake_freezes:
                trace.fake_freezes.append(full)
                known = [self.ledger.find(parameter) for parameter in module.parameters()]
                trace.fake_freeze_parameters[full] = [
                    entry.trace.name for entry in known if entry is not None
                ]
                last = full.rpartition(".")[2]
                place = written_at(self.files(), sets_false("requires_grad", "" if last.isdigit() else last))
                place = place or written_at(self.files(), sets_false("requires_grad"))
                if place is not None:
                    trace.fake_freeze_places[full] = place
            if isinstance(module, BATCH_NORMS):
                self._note_norm(full, module)
            if isinstance(module, CONTAINERS):
                self._note_repeats(trace, full, module)
            place = self.modules.last_switch(module, to_train=False)
            if path and place and not module.training and root.training and not _only_normalises(module):
                trace.eval_parts[full] = place

    def _note_shared_norms(self, trace: ModelTrace, root: nn.Module, name: str) -> None:
        """Note batch norms that several modules hold: each averages what it sees into the same statistics."""
        holders: dict[int, tuple[nn.Module, list[nn.Module]]] = {}
        for holder in root.modules():
            for child in holder._modules.values():
                if isinstance(child, BATCH_NORMS) and child.track_running_stats:
                    holders.setdefault(id(child), (child, []))[1].append(holder)
        for norm, found in holders.values():
            times, place = len({id(holder) for holder in found}), self.modules.place_of(norm)
            if times < 2 or any(seen.container == name and seen.place == place for seen in trace.repeated):
                continue
            size = sum(parameter.numel() for parameter in norm.parameters() if not is_lazy(parameter))
            trace.repeated.append(RepeatedModule(name, "", type(norm).__name__, times, size, place))

    def files(self) -> list[str]:
        """The user's files in which modules are made or steps are taken, those of the models first."""
        places = [place for _, place in self.modules.made.values() if place is not None]
        calling = [frame.f_code.co_filename for frame in user_frames()]
        return list(dict.fromkeys([*(place.file for place in places), *calling]))

    def _enter_parameter(self, parameter: torch.Tensor, name: str, model: str, holder: str) -> None:
        """Know a parameter that is kept in a plain list or dict of a module."""
        trace = self.ledger.enter(parameter, name, model, None)
        trace.model, trace.registered, trace.hidden_in = model, False, holder
        if trace.hidden_at is None:
            trace.hidden_at = written_at(self.files(), sets_attribute(holder.rpartition(".")[2]))
        trace.place = trace.place or trace.hidden_at

    def _enter(self, module: nn.Module, name: str, model: str, hidden_in: str | None) -> None:
        for path, layer in module.named_modules():
            for key, parameter in vars(layer).get("_parameters", {}).items():
                if parameter is None or is_lazy(parameter):
                    continue
                full = ".".join(part for part in (name, path, key) if part)
                trace = self.ledger.enter(parameter, full, model, layer)
                trace.registered, trace.hidden_in = hidden_in is None, hidden_in
                if hidden_in is not None and trace.hidden_at is None:
                    trace.hidden_at = written_at(self.files(), sets_attribute(hidden_in.rpartition(".")[2]))
                trace.contiguous = parameter.is_contiguous()
                if not trace.misspelt and (wrong := _misspelt(parameter)):
                    trace.misspelt = wrong
                    trace.misspelt_at = written_at(self.files(), sets_false(wrong))
                trace.place = self.modules.place_of_parameter(parameter) or self.modules.place_of(layer)
                trace.born = self.modules.born(parameter)
                trace.filled, trace.drawn = self.fills.place_of(layer), self.fills.place_of_tensor(parameter)
                entry, calls = self.ledger.find(parameter), self.modules.calls.get(id(layer))
                if entry is not None and hidden_in is None:
                    entry.root = weakref.ref(module)
                if entry is not None and calls is not None and calls.ref() is layer:
                    entry.calls = calls

    def _note_norm(self, name: str, layer: Any) -> None:
        trace = self.norms.get(name)
        if trace is None:
            trace = self.norms[name] = BatchNormTrace(name, layer.momentum, float(layer.eps))
            trace.place = self.modules.place_of(layer)
        trace.tracks = bool(layer.track_running_stats)
        trace.eval_place = self.modules.last_switch(layer, to_train=False) or trace.eval_place
        trace.affine_trainable = any(p.requires_grad for p in layer.parameters())
        trace.momentum = None if layer.momentum is None else float(layer.momentum)
        if layer.running_mean is not None and is_lazy(layer.running_mean):
            return
        if layer.num_batches_tracked is not None and layer.running_var is not None:
            trace.batches = int(layer.num_batches_tracked)
            trace.initial = has_new_statistics(layer)
        calls = self.modules.calls.get(id(layer))
        if calls is not None and calls.ref() is layer:
            self._norm_calls[name] = calls
        if trace.momentum is not None and trace.momentum > 0.5 and layer.running_mean is not None:
            self._note_jitter(name, trace, layer)

    def note_calls(self) -> None:
        """Bring what is known of the calls of batch norms up to date, also when their model is gone."""
        for name, calls in self._norm_calls.items():
            trace = self.norms[name]
            trace.kept_share, trace.drift = calls.kept_share, calls.drift
            trace.calls_in_train = calls.train_gradient + calls.train_plain
            trace.calls_in_eval = calls.eval_gradient + calls.eval_plain
            trace.samples, trace.batch_sizes = list(calls.samples), list(calls.batch_sizes)

    def _note_jitter(self, name: str, trace: BatchNormTrace, layer: Any) -> None:
        """How far the running mean moves between two looks, in standard deviations."""
        mean = layer.running_mean.detach().clone()
        before = self._means.get(name)
        if before is not None and before.shape == mean.shape and len(trace.jitter) < 64:
            spread = (layer.running_var.detach() + layer.eps).sqrt()
            trace.jitter.append(float(((mean - before).abs() / spread).mean()))
        self._means[name] = mean

    def _note_repeats(self, model: ModelTrace, name: str, container: Any) -> None:
        counts: dict[int, int] = {}
        for child in container._modules.values():
            counts[id(child)] = counts.get(id(child), 0) + 1
        for child in {id(child): child for child in container._modules.values()}.values():
            size = sum(p.numel() for p in child.parameters() if not is_lazy(p)) if child is not None else 0
            known = any(seen.container == name for seen in model.repeated)
            if counts[id(child)] > 1 and size and not known:
                place = self.modules.place_of(container)
                kind = type(child).__name__
                model.repeated.append(
                    RepeatedModule(name, type(container).__name__, kind, counts[id(child)], size, place)
                )
        self._note_shallow(model, name, container)

    def _note_shallow(self, model: ModelTrace, name: str, container: Any) -> None:
        """Distinct layers of a container that hold the same parts, as shallow copies of one do."""
        alike: dict[tuple[int, ...], dict[int, nn.Module]] = {}
        for child in container._modules.values():
            parts = tuple(id(part) for part in child.children()) if child is not None else ()
            if parts:
                alike.setdefault(parts, {})[id(child)] = child
        for copies in alike.values():
            first = next(iter(copies.values()))
            size = sum(p.numel() for p in first.parameters() if not is_lazy(p))
            if len(copies) > 1 and size and not any(seen.container == name for seen in model.repeated):
                place = self.modules.place_of(container)
                model.repeated.append(
                    RepeatedModule(
                        name,
                        type(container).__name__,
                        type(first).__name__,
                        len(copies),
                        size,
                        place,
                        shallow=True,
                    )
                )


def multiplies_a_list(code: str) -> bool:
    """Whether a line of code repeats a list by multiplication: `[block] * 4`."""
    tree = statement(code)
    if tree is None:
        return "] *" in code or "]*" in code
    return any(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and (isinstance(node.left, ast.List) or isinstance(node.right, ast.List))
        for node in ast.walk(tree)
    )


def _only_normalises(module: nn.Module) -> bool:
    """Whether all weights of a module are those of normalisation layers: eval is how these are frozen."""
    owners = [layer for layer in module.modules() if vars(layer).get("_parameters")]
    return all(
        isinstance(layer, BATCH_NORMS) for layer in owners if any(True for _ in layer.parameters(False))
    )


def _misspelt(parameter: nn.Parameter) -> str:
    """An attribute of a parameter, set to False, whose name is nearly `requires_grad`."""
    false = [key for key, value in vars(parameter).items() if value is False and not key.startswith("_")]
    return next(iter(difflib.get_close_matches("requires_grad", false, 1, 0.8)), "")


def _kept_in_plain_containers(root: nn.Module) -> Iterator[tuple[str, str, str, nn.Module | torch.Tensor]]:
    """Yield modules and parameters in plain lists, tuples and dicts of a model's modules: path of the owner, attribute, index."""
    registered = {id(thing) for thing in (*root.modules(), *root.parameters())}
    for path, module in list(root.named_modules()):
        for attribute, value in list(vars(module).items()):
            if attribute.startswith("_") and attribute in ("_modules", "_parameters", "_buffers"):
                continue
            for index, item in _items(value):
                plain = isinstance(item, torch.Tensor) and item.requires_grad and item.is_leaf
                if (plain or isinstance(item, (nn.Module, nn.Parameter))) and id(item) not in registered:
                    yield f"{path}." if path else "", attribute, index, item


def _items(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        pairs = [(repr(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and len(value) < 10_000:
        pairs = [(str(i), item) for i, item in enumerate(value)]
    else:
        return
    for key, item in pairs:
        if isinstance(item, (list, tuple, dict)) and depth < 2:
            yield from ((f"{key}][{inner}", thing) for inner, thing in _items(item, depth + 1))
        else:
            yield key, item


def _hidden_modules(roots: list[nn.Module]) -> set[int]:
    return {id(module) for root in roots for *_, module in _kept_in_plain_containers(root)}

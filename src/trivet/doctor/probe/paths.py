"""Watches the ways between parameters and losses: what a model's answer rests on, and where gradients become 0."""

import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import torch

from trivet.doctor.graph import Graph, place_of_node
from trivet.doctor.probe.ledger import Entry, Ledger
from trivet.doctor.probe.session import Session
from trivet.doctor.source import Place

ANSWERS = 2
"""Steps in which answers of models are walked."""
ALWAYS = 10
"""Recorded steps at which a gradient is exactly 0 before one step is traced to see where it becomes so."""
MOST_NODES, MOST_ANSWERS, MOST_TENSORS = 10_000, 32, 64


class PathWatch:
    """Notes what is behind the answers of models in the first steps; traces one step where gradients stay at 0."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self.session = session
        self.ledger = ledger
        self._answers = 0
        self._answered: list[weakref.ref[torch.Tensor]] = []
        self._idle: list[Entry] = []
        self._hooks: list[Any] = []
        self._steps: list[tuple[Any, Any]] = []
        self._done = False

    def note_answer(self, *call: object) -> None:
        """Keep the parameters that the answer, the last of (module, arguments, keywords, answer), leads to."""
        if not self.session.recording or self.session.steps >= ANSWERS or not torch.is_grad_enabled():
            return
        if self._answers >= MOST_ANSWERS:
            return
        self._answers += 1
        with self.session.measured():
            tensors = itertools.islice(_tensors(call[-1]), MOST_TENSORS)
            self._answered += [weakref.ref(leaf) for leaf in _leaves([t.grad_fn for t in tensors])]

    def note_loss(self, graph: Graph, backward_at: Place | None) -> None:
        """Note the line that makes a loss with the parameters that it leads to."""
        if not graph.operations:
            return
        made = _loss_place(graph, backward_at)
        for leaf in graph.leaves.values():
            entry = self.ledger.find(leaf)
            if entry is not None and entry.trace.reached_from is None:
                entry.trace.reached_from = made

    def name_answered(self) -> None:
        """Mark the parameters that answers have led to, now that they have names."""
        for ref in self._answered:
            tensor = ref()
            entry = self.ledger.find(tensor) if tensor is not None else None
            if entry is not None:
                entry.trace.answered = True
        self._answered.clear()

    def wants_tracing(self) -> bool:
        """Whether the next step should be traced, for some gradients have always been 0; so once a run."""
        if not self._done:
            self._idle = [entry for _, entry in self.ledger.alive() if _is_idle(entry)]
            self._done = bool(self._idle)
            return self._done
        return False

    def follow(self, losses: tuple[torch.Tensor, ...]) -> None:
        """Before a backward of the traced step: see at each operation whether a gradient goes in and comes out."""
        if self._idle and not self._hooks:
            with self.session.measured():
                self._hooks = [node.register_hook(self._look_at(node)) for node in _nodes(losses)]

    def _look_at(self, node: Any) -> Any:
        def look(to_inputs: tuple[Any, ...], from_outputs: tuple[Any, ...]) -> None:
            with self.session.measured():
                if not any(_is_something(value) for value in from_outputs):
                    return
                for value, (child, _) in zip(to_inputs, node.next_functions, strict=False):
                    if child is not None and value is not None and not _is_something(value):
                        self._steps.append((node, child))

        return look

    def end(self) -> None:
        """After the traced step: know which operation, nearest to the loss, made each gradient 0."""
        for hook in self._hooks:
            hook.remove()
        idle = {id(entry) for entry in self._idle}
        for node, child in self._steps:
            for leaf in _leaves([child]):
                entry = self.ledger.find(leaf)
                if entry is not None and id(entry) in idle and not entry.trace.flat_by:
                    entry.trace.flat_at = place_of_node(node)
                    entry.trace.flat_by = node.name().rstrip("0123456789").removesuffix("Backward")
        self._hooks, self._steps, self._idle = [], [], []


def _is_idle(entry: Entry) -> bool:
    trace = entry.trace
    return bool(trace.optimizers) and trace.with_gradient >= ALWAYS and not trace.with_nonzero


def _is_something(value: object) -> bool:
    """Whether a gradient has a value other than 0."""
    return isinstance(value, torch.Tensor) and (value.is_sparse or bool((value != 0).any()))


def _tensors(value: object, depth: int = 3) -> Iterator[torch.Tensor]:
    """Yield the tensors with a graph in what a model returns."""
    if isinstance(value, torch.Tensor):
        if value.requires_grad:
            yield value
    elif depth:
        if not isinstance(value, (list, tuple, dict)):
            value = vars(value) if hasattr(value, "__dict__") else ()
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, depth - 1)


def _loss_place(graph: Graph, backward_at: Place | None) -> Place | None:
    """The line of the last operation of a loss, but for what is done to it where the backward pass is called."""
    places = [place for _, place in graph.operations]
    elsewhere = (
        place
        for place in places
        if backward_at is None or (place.file, place.line) != (backward_at.file, backward_at.line)
    )
    return next(elsewhere, places[0] if places else None)


def _nodes(losses: tuple[torch.Tensor, ...]) -> list[Any]:
    """All operations of a graph but those that gather gradients, loss first."""
    level = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen: dict[Any, None] = dict.fromkeys(level)
    while level and len(seen) <= MOST_NODES:
        children = [child for node in level for child, _ in node.next_functions if child is not None]
        level = [child for child in dict.fromkeys(children) if child not in seen]
        seen |= dict.fromkeys(level)
    return [node for node in seen if not hasattr(node, "variable")]


def _leaves(level: list[Any]) -> list[torch.Tensor]:
    """The tensors that gather a gradient behind some operations."""
    seen, found = {node for node in level if node is not None}, []
    level = list(seen)
    while level and len(seen) <= MOST_NODES:
        following = []
        for node in level:
            if hasattr(node, "variable"):
                found.append(node.variable)
            for child, _ in node.next_functions:
                if child is not None and child not in seen:
                    seen.add(child)
                    following.append(child)
        level = following
    return found

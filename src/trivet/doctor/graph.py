"""The autograd graph, walked from a loss: which leaves it reaches, and which of the user's lines made its nodes."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from trivet.doctor.source import Place, places_of_stack, statement

MET = "trivet.doctor.step"
"""Key under which a node knows the step of the first walk that met it."""
DELICATE = ("Log", "Sqrt", "Rsqrt", "Reciprocal", "Div", "Pow", "Exp", "Acos", "Asin", "Softmax")

SQUASHING = ("Sigmoid", "Tanh")
RESHAPES = (
    "View",
    "Reshape",
    "UnsafeView",
    "Squeeze",
    "Unsqueeze",
    "Permute",
    "Transpose",
    "TBackward",
    "Clone",
    "Slice",
    "Select",
)


@dataclass
class Graph:
    """What a walk has met.

    Args:
        leaves: Tensors that gather a gradient, by id; held so that the ids stay theirs.
        operations: Name of the operation and the user's line, of nodes that were traced, loss first.
        delicate: Nodes of operations that are not finite everywhere, loss first.
        squashing: Count of nodes that saturate, such as the sigmoid.
        size: Count of nodes.
        stale: The first operation met that a walk at an earlier step has met already, and count of all of them.
        whole: Whether the walk came to its end.
    """

    leaves: dict[int, torch.Tensor] = field(default_factory=dict)
    operations: list[tuple[str, Place]] = field(default_factory=list)
    delicate: list[Any] = field(default_factory=list)
    squashing: int = 0
    size: int = 0
    stale: Any = None
    stale_count: int = 0
    whole: bool = True


def walk_graph(tensors: Iterable[torch.Tensor], *, most: int = 100_000, step: int | None = None) -> Graph:
    """Walk the graph behind some tensors, breadth first.

    Args:
        tensors: Where to begin; those without a graph add nothing.
        most: Count of nodes after which the walk gives up.
        step: Writes the step into the nodes, to know them again when a graph of a later step leads to them.
    """
    graph = Graph()
    level: list[Any] = []
    for tensor in tensors:
        if tensor.grad_fn is not None:
            level.append(tensor.grad_fn)
        elif tensor.requires_grad:
            graph.leaves[id(tensor)] = tensor
    seen: set[Any] = set(level)
    while level:
        following: list[Any] = []
        for node in level:
            _note(node, graph)
            if step is not None and step != node.metadata.setdefault(MET, step):
                _note_stale(node, graph)
            for child, _ in node.next_functions:
                if child is not None and child not in seen:
                    seen.add(child)
                    following.append(child)
        if graph.size > most:
            graph.whole = False
            break
        level = following
    return graph


def _note_stale(node: Any, graph: Graph) -> None:
    if hasattr(node, "variable"):  # where a leaf gathers its gradient: it lives as long as the leaf
        return
    graph.stale = graph.stale or node
    graph.stale_count += 1


def carried_place(node: Any) -> Place | None:
    """Return the user's line that carries something over: the outermost that reads what it assigns, or the innermost."""
    stack = node.metadata.get("traceback_")
    places = places_of_stack(stack) if stack else []
    return next((place for place in reversed(places) if _renews(place.code)), places[0] if places else None)


def _renews(code: str) -> bool:
    """Whether a statement assigns a name that it reads, as `output, state = model(values, state)` does."""
    node = statement(code)
    if not isinstance(node, ast.Assign):
        return False
    targets = [part for target in node.targets for part in ast.walk(target)]
    written = {ast.unparse(part) for part in targets if isinstance(part, (ast.Name, ast.Attribute))}
    read = {ast.unparse(part) for part in ast.walk(node.value) if isinstance(part, (ast.Name, ast.Attribute))}
    return bool((written - {"self"}) & read)


def place_of_node(node: Any) -> Place | None:
    """Return the user's line that made a node, known where it was made in anomaly mode."""
    stack = node.metadata.get("traceback_")
    places = places_of_stack(stack) if stack else []
    return places[0] if places else None


def without_reshapes(node: Any) -> Any:
    """Return the node behind operations that only change the shape of what it made."""
    while node.name().startswith(RESHAPES) and len(node.next_functions) == 1:
        behind = node.next_functions[0][0]
        if behind is None or hasattr(behind, "variable"):
            break
        node = behind
    return node


def _note(node: Any, graph: Graph) -> None:
    graph.size += 1
    variable = getattr(node, "variable", None)
    if variable is not None:
        graph.leaves[id(variable)] = variable
    name = node.name()
    graph.squashing += name.startswith(SQUASHING)
    if name.startswith(DELICATE):
        graph.delicate.append(node)
    place = place_of_node(node)
    if place is not None:
        graph.operations.append((name, place))

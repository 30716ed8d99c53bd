"""Looks for operations of a loss' graph at values where they, or their derivatives, are not finite."""

from typing import Any

import torch

from trivet.doctor.graph import Graph, place_of_node
from trivet.doctor.probe.session import Session
from trivet.doctor.signals import RiskTrace
from trivet.doctor.source import Place

MOST = 16


class RiskWatch:
    """Examines logarithms, roots, quotients and powers of walked graphs, before their backward."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.risks: dict[tuple[str, int, str], RiskTrace] = {}
        self._places: dict[tuple[str, int, int], Place | None] = {}

    def note(self, graph: Graph) -> None:
        """Examine a graph; the nodes nearest to the inputs come first."""
        of_kind: dict[str, list[Any]] = {}
        for node in graph.delicate:
            of_kind.setdefault(node.name(), []).append(node)
        for name, nodes in of_kind.items():
            for i, node in enumerate(reversed(nodes)):
                key = (name, len(nodes), i)
                if key not in self._places:
                    self._places[key] = place_of_node(node)
                reason = _reason(name, node)
                if reason is None or len(self.risks) >= MOST:
                    continue
                known = self.risks.get((name, i, reason))
                if known is not None:
                    known.passes += 1
                    continue
                operation = name.removesuffix("0").removesuffix("1").removesuffix("Backward")
                self.risks[name, i, reason] = RiskTrace(
                    operation, reason, self._places[key], self.session.steps
                )


def _reason(name: str, node: Any) -> str | None:
    """Why an operation cannot be differentiated where it is, or `None`."""
    try:
        with torch.no_grad():
            return _examine(name, node)
    except (RuntimeError, AttributeError):
        return None


def _examine(name: str, node: Any) -> str | None:
    if name.startswith(("LogBackward", "Log2Backward", "Log10Backward")):
        value = node._saved_self
        if bool((value < 0).any()):
            return "the logarithm of a negative number"
        return "the logarithm of 0" if bool((value == 0).any()) else None
    if name.startswith("SqrtBackward"):
        return (
            "the derivative of the root is infinite at 0" if bool((node._saved_result == 0).any()) else None
        )
    if name.startswith(("RsqrtBackward", "ReciprocalBackward")):
        return "a division by 0" if bool(torch.isinf(node._saved_result).any()) else None
    if name.startswith("DivBackward"):
        other = node._saved_other
        return "a division by 0" if isinstance(other, torch.Tensor) and bool((other == 0).any()) else None
    if name.startswith("PowBackward0"):
        power = float(node._saved_exponent)
        zero = power < 1 and bool((node._saved_self == 0).any())
        return f"the derivative of a power of {power:g} is infinite at 0" if zero else None
    if name.startswith("ExpBackward"):
        return (
            "an exponential beyond what the type can hold"
            if bool(torch.isinf(node._saved_result).any())
            else None
        )
    if name.startswith("SoftmaxBackward"):
        empty = bool(torch.isnan(node._saved_result).any())
        return "a softmax over nothing but minus infinity" if empty else None
    if name.startswith(("AcosBackward", "AsinBackward")):
        edge = bool((node._saved_self.abs() >= 1).any())
        return "the derivative of the arc is infinite at 1" if edge else None
    return None

"""Describes what ended a script: the user's lines, and the statements that change tensors in place."""

import ast
import linecache
import re
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path

from trivet.doctor.graph import Graph
from trivet.doctor.source import Place, is_user_file
from trivet.doctor.trace import ExceptionTrace

OPERATIONS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@", ast.Pow: "**"}
_IN_PLACE_METHOD = re.compile(r"[a-z0-9]_$")
_HARMLESS = ("requires_grad_", "zero_grad_", "share_memory_", "detach_", "__init__")


def describe_exception(fault: BaseException, forward: list[Place], graph: Graph | None) -> ExceptionTrace:
    """Return the record of an exception.

    Args:
        fault: The exception, with its traceback.
        forward: The user's lines of the forward operation whose backward failed, innermost first.
        graph: The graph of the loss, where operations know their lines.
    """
    frames = traceback.extract_tb(fault.__traceback__)
    places = [
        Place(frame.filename, frame.lineno or 0, (frame.line or "").strip(), frame.name)
        for frame in reversed(frames)
        if is_user_file(frame.filename)
    ]
    return ExceptionTrace(
        kind=type(fault).__name__,
        message=str(fault)[:2000],
        places=places,
        forward=forward,
        in_place=_in_place_lines(forward, graph, places),
    )


def in_place_target(code: str) -> tuple[str, str] | None:
    """Return the variable that a statement changes in place, and the statement that makes a new tensor instead.

    Example:
        >>> in_place_target("w /= w.sum()")
        ('w', 'w = w / w.sum()')
        >>> in_place_target("x.mul_(y)")
        ('x', 'x = x.mul(y)')
    """
    try:
        body = ast.parse(textwrap.dedent(code).strip()).body
    except (SyntaxError, ValueError):
        return None
    node = body[0] if body else None
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATIONS:
        target, value = ast.unparse(node.target), ast.unparse(node.value)
        if isinstance(node.value, (ast.BinOp, ast.IfExp, ast.BoolOp, ast.Compare)):
            value = f"({value})"
        return target, f"{target} = {target} {OPERATIONS[type(node.op)]} {value}"
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        target = ast.unparse(node.targets[0].value)
        return target, f"{target} = {target}.clone(); {code.strip()}"
    if node is None:
        return None
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and _changes(call.func.attr):
            target = ast.unparse(call.func.value)
            call.func.attr = call.func.attr[:-1]
            whole = ast.unparse(node)
            return target, whole if isinstance(node, (ast.Assign, ast.Return)) else f"{target} = {whole}"
        for keyword in call.keywords if isinstance(call, ast.Call) else []:
            if (
                isinstance(call, ast.Call)
                and keyword.arg == "inplace"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
            ):
                keyword.value.value = False
                return (ast.unparse(call.args[0]) if call.args else "its input"), ast.unparse(node)
    return None


def _changes(method: str) -> bool:
    return bool(_IN_PLACE_METHOD.search(method)) and method not in _HARMLESS and not method.startswith("__")


def _in_place_lines(forward: list[Place], graph: Graph | None, places: list[Place]) -> list[Place]:
    """Lines that change in place: those the graph met, then those of the functions on the path, then of the files."""
    found: list[Place] = []
    for _, place in graph.operations if graph else []:
        if place not in found and in_place_target(place.code):
            found.append(place)
    scopes = [*forward, *places]
    for near in scopes:
        for place in _statements(near.file):
            if place not in found and place.function == near.function:
                found.append(place)
    for file in dict.fromkeys(near.file for near in scopes):
        found += [place for place in _statements(file) if place not in found]
    return sorted(found, key=_counts)[:20]


def _counts(place: Place) -> bool:
    """Whether a statement only counts or sums up for the log: `total += loss.item()`, `n += 1`."""
    tree = ast.parse(place.code).body if in_place_target(place.code) else []
    node = tree[0] if tree else None
    if not isinstance(node, ast.AugAssign):
        return False
    return isinstance(node.value, ast.Constant) or ".item()" in place.code or "len(" in place.code


def _statements(file: str) -> Iterator[Place]:
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, (ast.AugAssign, ast.Expr, ast.Assign, ast.Return)):
                code = linecache.getline(file, node.lineno).strip()
                if in_place_target(code):
                    yield Place(file, node.lineno, code, function.name)

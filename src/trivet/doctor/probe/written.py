"""Finds statements in the user's files by their form: where an attribute is set, where a rate is changed."""

import ast
import linecache
from collections.abc import Callable, Iterable

from trivet.doctor.source import Place, parsed

Wanted = Callable[[ast.stmt], bool]


def written_at(files: Iterable[str], wanted: Wanted) -> Place | None:
    """Return the first statement of some files that is of a form."""
    for file in dict.fromkeys(files):
        tree = parsed(file)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.stmt) and not hasattr(node, "body") and wanted(node):
                return Place(file, node.lineno, linecache.getline(file, node.lineno).strip())
    return None


def sets_false(attribute: str, of: str = "") -> Wanted:
    """Match `x.attribute = False`, where the last name of x is `of` if that is given."""

    def wanted(node: ast.stmt) -> bool:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            return False
        target = node.targets[0]
        false = isinstance(node.value, ast.Constant) and node.value.value is False
        return false and target.attr == attribute and ast.unparse(target.value).split(".")[-1].endswith(of)

    return wanted


def sets_attribute(attribute: str) -> Wanted:
    """Match `self.attribute = ...`."""

    def wanted(node: ast.stmt) -> bool:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        return any(
            isinstance(target, ast.Attribute)
            and target.attr == attribute
            and isinstance(target.value, ast.Name)
            and target.value.id == "self"
            for target in targets
        )

    return wanted


def freezes_states_at(files: Iterable[str]) -> Place | None:
    """Return where a loop over `state_dict()` is to freeze what it goes through."""
    for file in dict.fromkeys(files):
        tree = parsed(file)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.For) and ".state_dict()" in ast.unparse(node.iter):
                text = ast.unparse(ast.Module(node.body, []))
                if ".requires_grad = False" in text or ".requires_grad_(False)" in text:
                    return Place(file, node.lineno, linecache.getline(file, node.lineno).strip())
    return None


def changes_rate(node: ast.stmt) -> bool:
    """Match a change of a learning rate by hand: `group["lr"] *= 0.9`."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return (
        isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Constant)
        and target.slice.value == "lr"
    )

"""Remedies as unified diffs against the user's file: each changes one statement, and is right where it is offered.

A patch is made of the file as it stands; where the file is not there, or the statement is of another form than the
remedy knows, there is none.
"""

import ast
import copy
import difflib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trivet.doctor.source import Place, parsed, short_path

Edit = Callable[[ast.expr], ast.expr | None]


def patch_of(file: str, lines: Iterable[str]) -> str | None:
    """Return the unified diff from a file to other lines, or `None` if these do not parse or are the same."""
    try:
        old = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    new = list(lines)
    if old == new or not _parses("\n".join(new)):
        return None
    name = short_path(file).lstrip("/")
    body = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(body) + "\n"


def replace_expression(place: Place | None, edit: Edit) -> str | None:
    """Replace the first expression of the statement at a place for which `edit` gives another one."""
    statement = statement_at(place)
    if place is None or statement is None:
        return None
    for node in _expressions(statement):
        made = edit(copy.deepcopy(node))
        if made is not None:
            return _substitute(place.file, node, _text_for(_as_written(made, place.file), node, statement))
    return None


def replace_statement(place: Place | None, text: str) -> str | None:
    """Replace the statement at a place by one line."""
    statement = statement_at(place)
    if place is None or statement is None or hasattr(statement, "body"):
        return None
    return _substitute(place.file, statement, text)


def insert_line(place: Place | None, text: str, *, after: bool = False) -> str | None:
    """Insert a line before (or after) the statement at a place, in its indentation."""
    statement = statement_at(place)
    if place is None or statement is None or (after and hasattr(statement, "body")):
        return None
    lines = _lines(place.file)
    first = lines[statement.lineno - 1]
    indent = first[: len(first) - len(first.lstrip())]
    if len(indent) != statement.col_offset:  # another statement stands before it on the line
        return None
    at = (statement.end_lineno or statement.lineno) if after else statement.lineno - 1
    return patch_of(place.file, [*lines[:at], f"{indent}{text}", *lines[at:]])


def statement_at(place: Place | None) -> ast.stmt | None:
    """Return the innermost statement that a line belongs to."""
    tree = parsed(place.file) if place is not None else None
    if place is None or tree is None:
        return None
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= place.line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: (node.lineno, node.col_offset), default=None)


def is_bound(place: Place, name: str) -> bool:
    """Whether a variable is set in the function that a line stands in, or in the module itself."""
    tree = parsed(place.file)
    if tree is None:
        return False
    scopes: list[ast.AST] = [tree]
    scopes += [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.lineno <= place.line <= (node.end_lineno or node.lineno)
    ]
    return any(name in _bound_in(scope, place.line) for scope in scopes)


def alias_of_nn(file: str) -> str | None:
    """Return what a file calls `torch.nn`."""
    for node in ast.walk(parsed(file) or ast.Module([], [])):
        if isinstance(node, ast.ImportFrom) and node.module == "torch":
            for item in node.names:
                if item.name == "nn":
                    return item.asname or "nn"
        if isinstance(node, ast.Import):
            for item in node.names:
                if item.name == "torch.nn":
                    return item.asname or "torch.nn"
                if item.name == "torch":
                    return f"{item.asname or 'torch'}.nn"
    return None


def name_called(node: ast.expr) -> str:
    """Return the last name of what is called: `Softmax` for `nn.Softmax(dim=1)`."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def without_call(*names: str) -> Edit:
    """Edit: the argument (or the object) of a call of one of these functions in the place of the call."""

    def edit(node: ast.expr) -> ast.expr | None:
        if not isinstance(node, ast.Call) or name_called(node) not in names:
            return None
        if node.args:
            return node.args[0]
        given = next((keyword.value for keyword in node.keywords if keyword.arg == "input"), None)
        return given or (node.func.value if isinstance(node.func, ast.Attribute) else None)

    return edit


def without_layer(*names: str) -> Edit:
    """Edit: `nn.Identity()` in the place of a layer without weights."""

    def edit(node: ast.expr) -> ast.expr | None:
        if not isinstance(node, ast.Call) or name_called(node) not in names:
            return None
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        return _parse(f"{ast.unparse(owner)}.Identity()") if owner is not None else None

    return edit


def replace_keyword(place: Place | None, name: str, old: object, new: str) -> str | None:
    """Replace the constant that a call at a place is given for a keyword."""
    statement = statement_at(place)
    if place is None or statement is None:
        return None
    for node in _expressions(statement):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            value = keyword.value
            if keyword.arg == name and isinstance(value, ast.Constant) and value.value == old:
                return _substitute(place.file, value, new)
    return None


def calls_at(place: Place | None) -> list[ast.Call]:
    """Return the calls that the statement at a place makes."""
    statement = statement_at(place)
    return [] if statement is None else [n for n in _expressions(statement) if isinstance(n, ast.Call)]


def first_of(*patches: str | None) -> str | None:
    """Return the first patch that there is."""
    return next((patch for patch in patches if patch is not None), None)


def _parse(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _lines(file: str) -> list[str]:
    return Path(file).read_text(encoding="utf-8").splitlines()


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself, outermost first; those of its body are other statements'."""
    level: list[ast.AST] = [statement]
    while level:
        node = level.pop(0)
        if isinstance(node, ast.expr):
            yield node
        level += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]


class _Written(ast.NodeTransformer):
    """Puts numbers as they stand in the file (`1e-3`, not `0.001`) in the place of their values."""

    def __init__(self, source: str) -> None:
        self.source = source

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        text = ast.get_source_segment(self.source, node) if number and hasattr(node, "lineno") else None
        return ast.Name(text, ast.Load()) if text and self._is(text, node) else node

    @staticmethod
    def _is(text: str, node: ast.Constant) -> bool:
        """Whether a text of the file is that number: a node made from other text has places of that one."""
        try:
            return bool(ast.literal_eval(text) == node.value)
        except (SyntaxError, ValueError):
            return False


def _as_written(made: ast.expr, file: str) -> ast.expr:
    """An expression of which the parts that stand in the file keep its spelling."""
    try:
        source = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return made
    written = _Written(source).visit(made)
    assert isinstance(written, ast.expr), "only constants are replaced"
    return written


def _text_for(made: ast.expr, replaced: ast.expr, statement: ast.stmt) -> str:
    """The text of an expression, in brackets where it may stand inside another one."""
    text = ast.unparse(made)
    simple = isinstance(made, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List))
    whole = isinstance(statement, (ast.Assign, ast.Return)) and statement.value is replaced
    return text if simple or whole else f"({text})"


def _substitute(file: str, node: ast.expr | ast.stmt, text: str) -> str | None:
    """The patch that puts a text in the place of a node; columns of the tree count bytes."""
    if node.end_lineno is None or node.end_col_offset is None:
        return None
    try:
        lines = _lines(file)
    except (OSError, UnicodeDecodeError):
        return None
    first, last = lines[node.lineno - 1].encode(), lines[node.end_lineno - 1].encode()
    made = first[: node.col_offset].decode() + text + last[node.end_col_offset :].decode()
    return patch_of(file, [*lines[: node.lineno - 1], made, *lines[node.end_lineno :]])


def _bound_in(scope: ast.AST, line: int) -> set[str]:
    """Names that a module or function sets by itself, above a line."""
    found: set[str] = set()
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
        given = scope.args
        found |= {item.arg for item in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    level = list(ast.iter_child_nodes(scope))
    while level:
        node = level.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.lineno <= line:
            found.add(node.id)
        level += ast.iter_child_nodes(node)
    return found

"""Finds, in the user's source, the statement that makes a value: an element of what a function returns, an argument."""

import ast
import linecache
from collections.abc import Iterable, Iterator
from types import CodeType

from trivet.doctor.source import Place, parsed

CONVERSIONS = frozenset(
    {
        "tensor",
        "as_tensor",
        "from_numpy",
        "array",
        "asarray",
        "stack",
        "cat",
        "FloatTensor",
        "LongTensor",
        "Tensor",
    }
)
"""Calls that hand on what they are given: the statement that makes it is meant."""
ORDERING = ("sorted", "sort", "argsort", "shuffle", "randperm", "permutation", "flip", "reversed", "sample")
CLIPPING = ("clip", "clamp", "clip_", "clamp_")
GROWING = ("append", "extend", "insert")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def returned_at(code: CodeType, part: int | str) -> Place | None:
    """Return where a function makes an element of what it returns.

    Args:
        code: That of the function.
        part: Index in a tuple that is returned, or key in a dictionary that is returned or is an element of one.
    """
    function = _function(code)
    if function is None:
        return None
    for statement in reversed(list(_statements(function))):
        if not isinstance(statement, ast.Return) or statement.value is None:
            continue
        found = _element(_behind_name(statement.value, function, statement), part, function, statement)
        if found is not None:
            return _place(code.co_filename, _maker(found, function, statement))
    return None


def keyed_at(files: Iterable[str], key: str) -> Place | None:
    """Return where the value under a key of a dictionary is made, if one place in some files makes such dictionaries."""
    found = []
    for file in dict.fromkeys(files):
        tree = parsed(file)
        for scope in _scopes(tree) if tree is not None else ():
            for statement in _statements(scope):
                for node in _own_expressions(statement):
                    value = _value_of_key(node, key)
                    if value is not None:
                        found.append(_place(file, _maker(value, scope, statement)))
    return found[0] if len(found) == 1 else None


def argument_at(place: Place | None) -> Place | None:
    """Return where the variable is assigned that chooses the first argument of a call at a place.

    That is `v` of `model(v)`, and `held` of `model(x[held])`; of a variable of a loop, what the loop goes through. `None`
    where the argument is chosen at the place itself, as by `model(x[100:])`.
    """
    for call, scope, tree, statement in _calls_at(place):
        if call.args and _root(call.args[0]) is not None:
            return _place_in(place, _chosen(call.args[0], scope, tree, statement))
    return None


def element_at(place: Place | None, index: int) -> Place | None:
    """Return where the variable is given its value that is an element of the first argument of a call at a place.

    That is `b` of `SGD([a, b])` for the element 1; of `SGD(weights + biases)`, where the first list is filled.
    """
    for call, scope, tree, statement in _calls_at(place):
        name = _root(_element_of(call.args[0], index)) if call.args else None
        made = (_assignment(name, scope, statement) or _assignment(name, tree, statement)) if name else None
        if made is not None:
            return _place_in(place, made)
    return None


def selected_at(place: Place | None) -> Place | None:
    """Return where the parameters are selected that an optimizer made at a place is given.

    That is the first line that fills the list which it is given, or the first comprehension or condition of the function
    of the same file that makes what it is given. `None` where they are named at the place itself.
    """
    for call, scope, tree, statement in _calls_at(place):
        if not call.args:
            continue
        given = call.args[0]
        name = _root(given)
        if isinstance(given, ast.Call) and isinstance(given.func, ast.Name):
            function = next(
                (n for n in ast.walk(tree) if isinstance(n, Function) and n.name == given.func.id), None
            )
            made = _selection(function) if function is not None else None
        else:
            names = {name, *_names_of_groups(name, scope)}
            first = next((s for s in _statements(scope) if names & _given(s) and _is_filled(s)), None)
            made = first if first is not None and first.lineno < statement.lineno else None
        if made is not None:
            return _place_in(place, made)
    return None


def table_at(place: Place | None) -> Place | None:
    """Return where the dictionary is made that the statement at a place looks something up in: `labels.append(table[name])`."""
    tree = parsed(place.file) if place is not None else None
    if place is None or tree is None:
        return None
    statements = [s for scope in _scopes(tree) for s in _statements(scope)]
    inner = [s for s in statements if s.lineno <= place.line <= (s.end_lineno or s.lineno)]
    if not inner:
        return None
    for node in _own_expressions(max(inner, key=lambda s: s.lineno)):
        table = ast.unparse(node.value) if isinstance(node, ast.Subscript) else None
        for statement in statements if table is not None else ():
            if not isinstance(statement, ast.Assign) or ast.unparse(statement.targets[0]) != table:
                continue
            if isinstance(statement.value, (ast.Dict, ast.DictComp)):
                return _place(place.file, statement)
    return None


def looked_up_at(files: Iterable[str], key: str) -> Place | None:
    """Return where the whole value under a key is used, if one statement of some files does so: `x, y, w, h = a["bbox"]`."""
    found: dict[int, Place] = {}
    for file in dict.fromkeys(files):
        tree = parsed(file)
        for scope in _scopes(tree) if tree is not None else ():
            for statement in _statements(scope):
                nodes = [node for node in _own_expressions(statement) if isinstance(node, ast.Subscript)]
                parts = {id(node.value) for node in nodes}
                for node in nodes:
                    named = isinstance(node.slice, ast.Constant) and node.slice.value == key
                    if named and id(node) not in parts and isinstance(node.ctx, ast.Load):
                        found[id(statement)] = _place(file, statement)
    return next(iter(found.values())) if len(found) == 1 else None


def clipped_at(files: Iterable[str]) -> Place | None:
    """Return where numbers are cut off at 0 and at another border, if one function of some files does so."""
    found: dict[int, Place] = {}
    for file in dict.fromkeys(files):
        tree = parsed(file)
        for scope in _scopes(tree) if tree is not None else ():
            for statement in _statements(scope):
                if id(scope) not in found and any(_cuts_off(node) for node in _own_expressions(statement)):
                    found[id(scope)] = _place(file, statement)
    return next(iter(found.values())) if len(found) == 1 else None


def _cuts_off(node: ast.expr) -> bool:
    """Whether an expression is `x.clip(0, side)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or len(node.args) != 2:
        return False
    low, high = node.args
    starts = isinstance(low, ast.Constant) and low.value == 0
    return node.func.attr in CLIPPING and starts and not (isinstance(high, ast.Constant) and high.value == 1)


def reordered_at(code: CodeType) -> Place:
    """Return where a function puts something into another order, or else where it begins."""
    function = _function(code)
    for statement in _statements(function) if function is not None else ():
        for node in _own_expressions(statement):
            called = node.func if isinstance(node, ast.Call) else None
            if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in ORDERING:
                return _place(code.co_filename, statement)
    line = code.co_firstlineno
    return Place(code.co_filename, line, linecache.getline(code.co_filename, line).strip(), code.co_name)


def _names_of_groups(name: str | None, scope: ast.AST) -> set[str]:
    """The variables that hold the parameters of the groups in a list: `groups = [{"params": decay}, {"params": rest}]`."""
    found: set[str] = set()
    for statement in _statements(scope) if name is not None else ():
        value = statement.value if isinstance(statement, ast.Assign) and name in _given(statement) else None
        for item in value.elts if isinstance(value, ast.List) else ():
            given = _value_of_key(item, "params")
            if isinstance(given, ast.Name):
                found.add(given.id)
    return found


def deaf_train_at(code: CodeType) -> Place | None:
    """Return where a module's own `train(self, mode)` calls that of its base class without handing the mode on."""
    function = _function(code)
    if function is None or len(function.args.args) < 2:
        return None
    mode = function.args.args[1].arg
    for node in ast.walk(function):
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Attribute)
            or node.func.attr != "train"
        ):
            continue
        base = node.func.value
        if isinstance(base, ast.Call) and getattr(base.func, "id", "") == "super":
            handed = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
            return None if mode in handed else _place(code.co_filename, node)
    return None


def _is_filled(statement: ast.stmt) -> bool:
    """Whether a statement adds to a list, or makes one by a comprehension."""
    return isinstance(statement, (ast.Expr, ast.AugAssign)) or _selects(statement)


def _selects(statement: ast.stmt) -> bool:
    comprehensions = [
        n for n in _own_expressions(statement) if isinstance(n, (ast.ListComp, ast.GeneratorExp))
    ]
    return any(part.ifs for node in comprehensions for part in node.generators)


def _selection(function: Function) -> ast.AST | None:
    """The last of the first run of statements of a function that select, or the first that does under a condition."""
    chosen = [s for s in _statements(function) if _selects(s) or isinstance(s, ast.If)]
    return chosen[min(1, len(chosen) - 1)] if chosen else None


def value_at(place: Place | None, argument: int = 0) -> Place | None:
    """Return where the value is made that is an argument, the first by default, of a call at a place.

    That is where `v` of `model(v[rows])` is assigned; of a variable of a loop, what the loop goes through; of what a
    function of the same file returns, where that makes it. `None` where the value is made at the place itself.
    """
    for call, scope, tree, statement in _calls_at(place):
        name = _root(call.args[argument]) if len(call.args) > argument else None
        if name is not None:
            return _place_in(place, _followed(name, scope, tree, statement))
    return None


def _followed(name: str, scope: ast.AST, tree: ast.Module, before: ast.stmt) -> ast.AST | None:
    """The statement that makes the value of a variable, behind the loop or the function of the file that hands it out."""
    made = _assignment(name, scope, before) or _assignment(name, tree, before)
    if isinstance(made, ast.For):
        source = _root(made.iter)
        return _followed(source, scope, tree, made) if source not in (None, name) else None
    value = getattr(made, "value", None)
    if (
        not isinstance(made, ast.Assign)
        or not isinstance(value, ast.Call)
        or not isinstance(value.func, ast.Name)
    ):
        return made
    target = made.targets[0]
    names = [getattr(part, "id", "") for part in target.elts] if isinstance(target, ast.Tuple) else []
    for function in ast.walk(tree):
        if isinstance(function, Function) and function.name == value.func.id:
            for statement in reversed(list(_statements(function))):
                if not isinstance(statement, ast.Return) or statement.value is None:
                    continue
                given = _behind_name(statement.value, function, statement)
                part = _element(given, names.index(name), function, statement) if name in names else given
                return _maker(part, function, statement) if part is not None else made
    return made


def _element_of(value: ast.expr, index: int) -> ast.expr:
    if isinstance(value, (ast.List, ast.Tuple)) and value.elts:
        unpacked = next((i for i, part in enumerate(value.elts) if isinstance(part, ast.Starred)), index)
        value = value.elts[min(index, unpacked, len(value.elts) - 1)]
    while isinstance(value, (ast.BinOp, ast.Starred)):
        value = value.left if isinstance(value, ast.BinOp) else value.value
    return value


def computed_at(place: Place) -> Place | None:
    """Return where arithmetic gives the variable its value that a call at a place is given first: `x = x / 255`."""
    for call, scope, _, statement in _calls_at(place):
        name = _root(call.args[0]) if call.args else None
        if name is None:
            continue
        made = _assignment(name, scope, statement)
        plain = made is not None and _is_plain(made)
        sums = plain and any(isinstance(part, ast.BinOp) for part in ast.walk(made or ast.Pass()))
        return _place_in(place, made) if sums or isinstance(made, ast.AugAssign) else None
    return None


def _calls_at(place: Place | None) -> Iterator[tuple[ast.Call, ast.Module | Function, ast.Module, ast.stmt]]:
    """Yield the calls at a place, with the scope and the file they stand in and their statement."""
    tree = parsed(place.file) if place is not None else None
    if place is None or tree is None:
        return
    for scope in _scopes(tree):
        for statement in _statements(scope):
            if statement.lineno <= place.line <= (statement.end_lineno or statement.lineno):
                for node in _own_expressions(statement):
                    if isinstance(node, ast.Call):
                        yield node, scope, tree, statement


def _place_in(place: Place | None, made: ast.AST | None) -> Place | None:
    """The place of a statement in the file of another place."""
    return _place(place.file, made) if place is not None and made is not None else None


def _chosen(value: ast.expr, scope: ast.AST, tree: ast.Module, before: ast.stmt) -> ast.stmt | None:
    """The statement that gives the variable its value which chooses what an expression is."""

    def assignment(name: str | None, before: ast.stmt) -> ast.stmt | None:
        return None if name is None else _assignment(name, scope, before) or _assignment(name, tree, before)

    for node in ast.walk(value):
        if not isinstance(node, ast.Subscript):
            continue
        if isinstance(node.slice, ast.Slice):
            return None
        if isinstance(node.slice, ast.Name):
            made = assignment(node.slice.id, before)
            if made is not None and not isinstance(made, ast.For):
                return made
    made = assignment(_root(value), before)
    return assignment(_root(made.iter), made) if isinstance(made, ast.For) else made


def _function(code: CodeType) -> Function | None:
    tree = parsed(code.co_filename)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, Function) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def _scopes(tree: ast.Module) -> Iterator[ast.Module | Function]:
    yield tree
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def _statements(scope: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a scope, without those of functions and classes within it, in the order of the text."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, (Function, ast.ClassDef)):
            continue
        if isinstance(child, ast.stmt):
            yield child
        if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _statements(child)


def _own_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the expressions of a statement, without those of statements within it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, (ast.expr, ast.withitem)):
            yield from (node for node in ast.walk(child) if isinstance(node, ast.expr))


def _element(value: ast.expr, part: int | str, scope: ast.AST, before: ast.stmt) -> ast.expr | None:
    """The expression of an element; a key is looked for in the elements of a tuple too."""
    if isinstance(part, int):
        whole = isinstance(value, ast.Tuple) and len(value.elts) > part
        return value.elts[part] if whole and isinstance(value, ast.Tuple) else None
    if isinstance(value, ast.Tuple):
        for element in value.elts:
            found = _element(_behind_name(element, scope, before), part, scope, before)
            if found is not None:
                return found
    return _value_of_key(value, part)


def _value_of_key(node: ast.expr, key: str) -> ast.expr | None:
    if isinstance(node, ast.Dict):
        for name, value in zip(node.keys, node.values, strict=True):
            if isinstance(name, ast.Constant) and name.value == key:
                return value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return next((keyword.value for keyword in node.keywords if keyword.arg == key), None)
    return None


def _behind_name(value: ast.expr, scope: ast.AST, before: ast.stmt) -> ast.expr:
    """What a variable was last assigned, if it is a tuple or a dictionary as it stands."""
    made = _assignment(value.id, scope, before) if isinstance(value, ast.Name) else None
    shown = getattr(made, "value", None)
    return shown if isinstance(shown, (ast.Tuple, ast.Dict, ast.Call)) and _is_plain(made) else value


def _is_plain(statement: ast.stmt | None) -> bool:
    return isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)


def _maker(value: ast.expr, scope: ast.AST, before: ast.stmt) -> ast.AST:
    """The statement that makes an expression's value: what a lone variable in it was last given."""
    while isinstance(value, ast.Call) and len(value.args) >= 1:
        called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        if called not in CONVERSIONS:
            break
        value = value.args[0]
    made = _assignment(value.id, scope, before) if isinstance(value, ast.Name) else None
    if made is None:
        return value
    inner = getattr(made, "value", None)
    further = _handed_on(inner) if isinstance(inner, ast.Call) and _is_plain(made) else None
    return (_assignment(further, scope, made) if further is not None else None) or made


def _handed_on(call: ast.Call) -> str | None:
    """The variable that a conversion is given alone."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = call.args[0] if call.args else None
    return given.id if called in CONVERSIONS and isinstance(given, ast.Name) else None


def _assignment(name: str, scope: ast.AST, before: ast.stmt) -> ast.stmt | None:
    """The last statement before another one that gives a variable its value, or adds to it."""
    found = None
    for statement in _statements(scope):
        if statement is before or statement.lineno > before.lineno:
            break
        if name in _given(statement):
            found = statement
    return found


def _given(statement: ast.stmt) -> set[str]:
    """The variables that a statement assigns, or adds to."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign, ast.For)):
        targets = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value.func
        growing = isinstance(call, ast.Attribute) and (call.attr in GROWING or call.attr.endswith("_"))
        targets = [call.value] if growing and isinstance(call, ast.Attribute) else []
    else:
        targets = []
    names = set()
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and (root := _root(target)) is not None:
                names.add(root)
            if isinstance(target, (ast.Tuple, ast.List)) and isinstance(node, ast.Name):
                names.add(node.id)
    return names


def _root(value: ast.expr) -> str | None:
    """The variable that an expression begins with: `x` of `x[a].float()`."""
    while not isinstance(value, ast.Name):
        if isinstance(value, (ast.Subscript, ast.Attribute, ast.Starred)):
            value = value.value
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            value = value.func.value
        else:
            return None
    return value.id


def _place(file: str, node: ast.AST) -> Place:
    line = int(getattr(node, "lineno", 1))
    return Place(file, line, linecache.getline(file, line).strip())

"""The user's line: the first frame that is not of torch, the standard library, an installed package or the doctor."""

import ast
import linecache
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType

_OWN = str(Path(__file__).parent)
_LIBRARIES = tuple({sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


@dataclass(frozen=True)
class Place:
    """A line of the user's code: absolute file, line from 1, its text, and the function it stands in."""

    file: str
    line: int
    code: str = ""
    function: str = ""

    def __str__(self) -> str:
        return f"{short_path(self.file)}:{self.line}"


def short_path(file: str) -> str:
    """Return a path relative to the working folder where it lies inside it."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file


@lru_cache(maxsize=4096)
def is_user_file(file: str) -> bool:
    """Whether a code object's file is the user's own."""
    if file.startswith(("<frozen", "<@", _OWN)):
        return False
    if "site-packages" in file or "dist-packages" in file or "/torch/" in file:
        return False
    return not file.startswith(_LIBRARIES)


def user_place(constructs: object = None) -> Place | None:
    """Return the innermost line of the user that leads here, or `None` when there is none.

    Args:
        constructs: An object under construction; its own `__init__` frames are passed over, so that the
            answer is the line that makes it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if is_user_file(code.co_filename) and not (
            constructs is not None and code.co_name == "__init__" and _is_first_argument(frame, constructs)
        ):
            return place_of_frame(frame)
        frame = frame.f_back
    return None


def calling_frame() -> FrameType | None:
    """Return the frame that called into the doctor: passes over its own, and those of decorators around them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


@lru_cache(maxsize=4096)
def _is_own(file: str) -> bool:
    return file.startswith((_OWN, "<@")) or "/jaxtyping/" in file or "/beartype/" in file


def place_of_frame(frame: FrameType) -> Place:
    """Return the line a frame stands at."""
    file = frame.f_code.co_filename
    return Place(file, frame.f_lineno, linecache.getline(file, frame.f_lineno).strip(), frame.f_code.co_name)


def user_frames() -> Iterable[FrameType]:
    """Yield the frames of the user's code that lead here, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_user_file(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def places_of_stack(lines: Iterable[str]) -> list[Place]:
    """Return the user's lines in a formatted stack (as `traceback.format_stack` gives), innermost first."""
    found = [match for text in lines for match in _FRAME.finditer(text)]
    return [
        Place(m["file"], int(m["line"]), linecache.getline(m["file"], int(m["line"])).strip(), m["function"])
        for m in reversed(found)
        if is_user_file(m["file"])
    ]


def statement(code: str) -> ast.stmt | None:
    """Parse one line of code, or return `None` when it is only part of a statement."""
    try:
        body = ast.parse(textwrap.dedent(code)).body
    except (SyntaxError, ValueError):
        return None
    return body[0] if len(body) == 1 else None


def parsed(file: str) -> ast.Module | None:
    """Parse a file as it stands now, or return `None` when it cannot be."""
    try:
        state = Path(file).stat()
        return _parsed(file, state.st_mtime_ns, state.st_size)
    except (OSError, SyntaxError, ValueError):
        return None


@lru_cache(maxsize=64)
def _parsed(file: str, *_: int) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def whole_statement(place: Place) -> str:
    """Return the text of the statement that a line belongs to, also when it reaches over several lines."""
    tree = parsed(place.file)
    around = [
        node
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.stmt) and node.lineno <= place.line <= (node.end_lineno or node.lineno)
    ]
    inner = max(around, key=lambda node: node.lineno, default=None)
    if inner is None or hasattr(inner, "body"):
        return place.code
    return ast.unparse(inner)


def one_line_patch(place: Place, *replacement: str) -> str:
    """Return a unified diff that puts other lines in the place of one; indentation is taken from the file."""
    original = linecache.getline(place.file, place.line).rstrip("\n")
    indent = original[: len(original) - len(original.lstrip())]
    old = original if original.strip() == place.code else place.code
    file = short_path(place.file).lstrip("/")
    head = f"--- a/{file}\n+++ b/{file}\n@@ -{place.line} +{place.line}"
    count = "" if len(replacement) == 1 else f",{len(replacement)}"
    return f"{head}{count} @@\n-{old}\n" + "".join(f"+{indent}{line}\n" for line in replacement)


def _is_first_argument(frame: FrameType, thing: object) -> bool:
    names = frame.f_code.co_varnames
    return bool(names) and frame.f_locals.get(names[0]) is thing

"""The corpus as objects, and the checks that keep its description true.

python benchmarks/doctor/corpus.py          # the description only: quick
python benchmarks/doctor/corpus.py --run    # also run every program, without any doctor
"""

import argparse
import ast
import difflib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomlkit

HERE = Path(__file__).parent
SECONDS = 15.0
CHANGED_LINES = 14
TASKS = {
    "classification", "detection", "generation", "keypoints", "language", "regression", "reinforcement",
    "representation", "restoration", "retrieval", "segmentation",
}  # fmt: skip
LOOPS = {"plain", "fabric", "lightning", "accelerate", "transformers"}


@dataclass(frozen=True)
class Place:
    """A line a finding may rightly point at, with a piece of that line's text."""

    line: int
    text: str


@dataclass(frozen=True)
class Program:
    """One program.

    Args:
        name: Its file's stem.
        kind: `faulty`, `fixed` (the same with its minimal fix) or `healthy`.
        path: The script.
        about: What it is about, in one sentence.
        task: One of `TASKS`.
        loop: Who writes the loop, one of `LOOPS`.
        source: The real case it follows; None for most healthy programs.
        expect: Name of the finding that is the cause; empty unless faulty.
        accept: Other names that are right too.
        structural: Whether the fault has a line.
        places: Lines a finding may point at, the best first.
        raises: Exception the faulty program ends with.
    """

    name: str
    kind: str
    path: Path
    about: str
    task: str
    loop: str
    source: str | None = None
    expect: str = ""
    accept: tuple[str, ...] = ()
    structural: bool = False
    places: tuple[Place, ...] = ()
    raises: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """All names that count as the right cause."""
        return frozenset((self.expect, *self.accept))


def load() -> list[Program]:
    """Return all programs: every faulty one followed by its fixed twin, then the healthy ones."""
    table = tomlkit.parse((HERE / "corpus.toml").read_text()).unwrap()
    programs = []
    for name, entry in table["faulty"].items():
        shared = {key: entry[key] for key in ("about", "task", "loop", "source")}
        programs.append(
            Program(
                name=name,
                kind="faulty",
                path=HERE / "programs" / f"{name}.py",
                expect=entry["expect"],
                accept=tuple(entry.get("accept", ())),
                structural=entry["structural"],
                places=tuple(Place(**place) for place in entry["places"]),
                raises=entry.get("raises"),
                **shared,
            )
        )
        programs.append(Program(name=name, kind="fixed", path=HERE / "fixed" / f"{name}.py", **shared))
    for name, entry in table["healthy"].items():
        shared = {key: entry.get(key) for key in ("about", "task", "loop", "source")}
        programs.append(Program(name=name, kind="healthy", path=HERE / "healthy" / f"{name}.py", **shared))
    return programs


def problems(programs: list[Program]) -> Iterator[str]:
    """Yield what is wrong with the description of the corpus."""
    listed = {program.path for program in programs}
    for folder in ("programs", "fixed", "healthy"):
        for path in sorted((HERE / folder).glob("*.py")):
            if path not in listed:
                yield f"{path.name} of {folder}/ is not in corpus.toml"
    for program in programs:
        where = f"{program.kind} {program.name}"
        if not program.path.exists():
            yield f"{where}: no file {program.path}"
            continue
        text = program.path.read_text()
        ast.parse(text)
        if program.task not in TASKS or program.loop not in LOOPS:
            yield f"{where}: unknown task {program.task!r} or loop {program.loop!r}"
        if len(text.splitlines()) > 110:
            yield f"{where}: {len(text.splitlines())} lines are too many to read"
        if program.kind == "faulty":
            yield from faulty_problems(program, text)


def faulty_problems(program: Program, text: str) -> Iterator[str]:
    """Yield what is wrong with the places, the source and the fix of a faulty program."""
    lines = text.splitlines()
    if not program.places or not program.source:
        yield f"faulty {program.name}: a line and a source are needed"
    for place in program.places:
        if not (place.line <= len(lines) and place.text in lines[place.line - 1]):
            found = [number for number, line in enumerate(lines, 1) if place.text in line]
            yield f"faulty {program.name}: line {place.line} is not {place.text!r}, which is at {found}"
    fixed = (HERE / "fixed" / f"{program.name}.py").read_text().splitlines()
    changed = [line for line in difflib.ndiff(lines, fixed) if line[:1] in "+-"]
    if not 1 <= len(changed) <= CHANGED_LINES:
        yield f"faulty {program.name}: the fix changes {len(changed)} lines, wanted 1 to {CHANGED_LINES}"


def run_plainly(program: Program, python: str, seconds: float = 120.0) -> Iterator[str]:
    """Run a program without a doctor and yield what is wrong: its exit, its time, files left behind."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [python, str(program.path)],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            yield f"{program.kind} {program.name}: not done after {seconds:.0f} s"
            return
        left = sorted(path.name for path in Path(folder).iterdir())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if left:
        yield f"{program.kind} {program.name}: leaves files behind: {left}"
    if used > SECONDS:
        yield f"{program.kind} {program.name}: takes {used:.1f} s of processor time, more than {SECONDS:.0f}"
    if program.raises is None and done.returncode:
        yield f"{program.kind} {program.name}: fails: {done.stderr.strip().splitlines()[-1:]}"
    if program.raises is not None and program.raises not in done.stderr:
        yield f"{program.kind} {program.name}: should end with {program.raises}"


def environment() -> dict[str, str]:
    """Return the environment programs run in: one thread, no network, no byte code beside the corpus."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **one, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the corpus.")
    parser.add_argument("--run", action="store_true", help="also run every program")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has requirements.txt")
    options = parser.parse_args()
    programs = load()
    found = list(problems(programs))
    if options.run:
        for program in programs:
            found += run_plainly(program, options.python)
    for line in found:
        print(line)
    kinds = [program.kind for program in programs]
    names = {program.expect for program in programs if program.expect}
    print(
        f"{kinds.count('faulty')} faulty and fixed, {kinds.count('healthy')} healthy, {len(names)} kinds of fault"
    )
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())

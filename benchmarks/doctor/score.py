"""Score doctors on the corpus: what they find in faulty programs, and what they say of healthy ones.

    python benchmarks/doctor/score.py [--doctors none trivet torchtest2 torch-audit torchmortem] [--only NAME ...]

Each program runs alone in a process of its own, once without and once with each doctor. Runs are kept in
runs.jsonl of the folder `--work`, so an interrupted scoring goes on where it stopped (`--again` forgets them). The
table is printed and written to score.md beside this file, unless `--only` chooses programs.
"""

import argparse
import hashlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from corpus import Program, environment, load
from doctors import DOCTORS, Doctor, Said, interpreter

HERE = Path(__file__).parent
NEAR = 3


@dataclass(frozen=True)
class Run:
    """One program under one doctor; `key` is made of both and of the program's text."""

    key: str
    doctor: str
    kind: str
    name: str
    said: list[Said]
    exit: int
    processor_seconds: float
    tail: str


def run(doctor: Doctor, program: Program, python: str, seconds: float) -> Run:
    """Run a program under a doctor, at most `seconds` long; a run that takes longer said nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "findings.json")
        Path(folder, "work").mkdir()
        try:
            done = subprocess.run(
                doctor.command(python, program.path, out),
                cwd=Path(folder, "work"), env=environment(), capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
            code, tail = done.returncode, done.stderr[-400:]
        except subprocess.TimeoutExpired:
            code, tail = -1, f"stopped after {seconds:.0f} s"
        said = doctor.read(out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(key(doctor, program), doctor.name, program.kind, program.name, said, code, used, tail)


class Warm:
    """Runs programs in forks of one warm interpreter (warm.py), several times faster than one by one."""

    def __init__(self, doctor: Doctor, python: str) -> None:
        command = [python, str(HERE / "warm.py"), doctor.name]
        self.doctor = doctor
        self._process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, program: Program, seconds: float) -> Run:
        """Run a program; its processor time lacks the imports, so that it is not compared with others."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "findings.json")
            asked = {"program": str(program.path), "out": str(out), "seconds": seconds}
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            done = json.loads(self._process.stdout.readline())
            said = self.doctor.read(out)
        made = key(self.doctor, program)
        return Run(
            made,
            self.doctor.name,
            program.kind,
            program.name,
            said,
            done["exit"],
            done["seconds"],
            done["tail"],
        )

    def close(self) -> None:
        """End the interpreter."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def key(doctor: Doctor, program: Program) -> str:
    text = hashlib.sha256(program.path.read_bytes()).hexdigest()[:12]
    return f"{doctor.name}/{program.kind}/{program.name}/{text}"


def earlier_runs(path: Path) -> dict[str, Run]:
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["key"]: Run(**{**row, "said": [Said(**one) for one in row["said"]]}) for row in rows}


@dataclass(frozen=True)
class Verdict:
    """Whether a doctor found a fault, named it first, and pointed at it."""

    found: bool
    first: bool
    line: bool


def judge(program: Program, said: list[Said]) -> Verdict:
    """Judge what was said of a faulty program.

    `found`: one of the right names was said, at any severity. `first`: it was said before anything else. `line`: some
    finding of a right name points at the program's file, at most `NEAR` lines from one of the right lines.
    """
    right = [one for one in said if program.names & set(one.names)]
    pointed = any(
        one.file is not None and Path(one.file).name == program.path.name and one.line is not None
        and any(abs(one.line - place.line) <= NEAR for place in program.places)
        for one in right
    )  # fmt: skip
    return Verdict(bool(right), bool(right) and said[0] in right, pointed)


def row(doctor: Doctor, programs: list[Program], runs: dict[str, Run]) -> list[str]:
    """Return one line of the table: shares of faulty programs, counts of healthy ones, time against no doctor."""
    ran = [p for p in programs if key(doctor, p) in runs]
    faulty = [(p, runs[key(doctor, p)]) for p in ran if p.kind == "faulty"]
    healthy = [(p, runs[key(doctor, p)]) for p in ran if p.kind != "faulty"]
    verdicts = [(p, judge(p, r.said)) for p, r in faulty]
    structural = [v for p, v in verdicts if p.structural]

    def share(hits: list[bool]) -> str:
        return f"{sum(hits)}/{len(hits)} ({sum(hits) / len(hits):.2f})" if hits else "-"

    def with_severity(severity: str) -> str:
        hits = sum(any(one.severity == severity for one in r.said) for _, r in healthy)
        total = sum(one.severity == severity for _, r in healthy for one in r.said)
        return f"{hits}/{len(healthy)} ({total})"

    plain = {(p.kind, p.name): runs.get(key(DOCTORS["none"], p)) for p in programs}
    ratios = [
        r.processor_seconds / plain[p.kind, p.name].processor_seconds
        for p, r in faulty + healthy
        if plain[p.kind, p.name] is not None and p.raises is None
    ]
    return [
        doctor.name,
        share([v.found for _, v in verdicts]),
        share([v.first for _, v in verdicts]),
        share([v.line for v in structural]),
        with_severity("error"),
        with_severity("warning"),
        f"{statistics.median(ratios):.2f}" if ratios else "-",
    ]


HEAD = [
    "doctor",
    "found",
    "right cause first",
    "right line",
    "errors on healthy",
    "warnings on healthy",
    "time",
]


def table(rows: list[list[str]]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """Return the processor's name and what the programs run on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    versions = f"python {platform.python_version()}, torch {version('torch')}"
    return f"one core of {name or platform.machine()}, {versions}"


def missed(doctor: Doctor, programs: list[Program], runs: dict[str, Run]) -> str:
    """Return what a doctor got wrong, program by program."""
    lines = []
    for program in programs:
        seen = runs.get(key(doctor, program))
        if seen is None:
            continue
        words = "; ".join(f"{one.severity} {one.text[:90]} @{one.line}" for one in seen.said[:3]) or "nothing"
        if program.kind != "faulty":
            if any(one.severity != "note" for one in seen.said):
                lines.append(f"{program.kind} {program.name}: {words}")
            continue
        verdict = judge(program, seen.said)
        wrong = [n for n in ("found", "first") if not getattr(verdict, n)]
        wrong += ["line"] if program.structural and not verdict.line else []
        if wrong:
            at = [place.line for place in program.places]
            lines.append(
                f"faulty {program.name}: not {'/'.join(wrong)}: {program.expect} @{at}; said {words}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--doctors", nargs="+", default=list(DOCTORS), choices=list(DOCTORS))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these programs (with their twins) only")
    parser.add_argument("--seconds", type=float, default=180.0, help="time limit of one run")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="folder for environments and runs")
    parser.add_argument(
        "--again", nargs="*", choices=list(DOCTORS), help="forget earlier runs (of these doctors)"
    )
    parser.add_argument(
        "--warm", action="store_true", help="run programs in forks of one interpreter: faster, but no times"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="run every Nth program (and its twin) only"
    )
    parser.add_argument(
        "--kinds", nargs="+", default=["healthy", "faulty", "fixed"], help="run these kinds, in this order"
    )
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="begin no run after so many minutes")
    parser.add_argument("--missed", action="store_true", help="also print what each doctor got wrong")
    options = parser.parse_args()
    programs = [p for p in load() if not options.only or p.name in options.only]
    names = sorted({p.name for p in programs})
    chosen = set(names[:: options.every])
    began = time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "runs.jsonl"
    runs = earlier_runs(kept)
    if options.again is not None:
        runs = {k: r for k, r in runs.items() if options.again and r.doctor not in options.again}
        kept.write_text("".join(json.dumps(asdict(r)) + "\n" for r in runs.values()))
    doctors = [DOCTORS[name] for name in options.doctors]
    for doctor in doctors:
        needs = tuple(name for name in ("requirements.txt", doctor.requirements) if name)
        python = interpreter(options.work.resolve(), needs)
        warm = Warm(doctor, python) if options.warm else None
        for program in sorted(programs, key=lambda p: (*options.kinds, p.kind).index(p.kind)):
            late = options.budget is not None and time.monotonic() - began > 60 * options.budget
            if (
                key(doctor, program) in runs
                or program.name not in chosen
                or late
                or program.kind not in options.kinds
            ):
                continue
            done = (
                warm.run(program, options.seconds)
                if warm is not None
                else run(doctor, program, python, options.seconds)
            )
            runs[done.key] = done
            with kept.open("a") as file:
                file.write(json.dumps(asdict(done)) + "\n")
            print(f"{done.key}: {done.processor_seconds:.1f} s, {len(done.said)} said", flush=True)
        if warm is not None:
            warm.close()
    text = table([row(doctor, programs, runs) for doctor in doctors if doctor.name != "none"])
    print(text)
    if options.missed:
        for doctor in doctors:
            if doctor.name != "none":
                print(f"\n{doctor.name}\n{missed(doctor, programs, runs)}")
    if not options.only:
        stamp = (
            f"{time.strftime('%Y-%m-%d')}, {machine()}: `python benchmarks/doctor/score.py {' '.join(sys.argv[1:])}`\n\n"
            f"{len(programs)} programs; where a count is smaller, an even share of them was run. With `--warm`, times are "
            "without imports. README.md says what the columns mean.\n"
        )
        (HERE / "score.md").write_text(f"# Doctors on the corpus\n\n{stamp}\n{text}\n")


if __name__ == "__main__":
    main()

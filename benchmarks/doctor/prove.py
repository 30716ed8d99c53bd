"""What `--prove` says of the faulty programs whose finding it can put to the test.

    python benchmarks/doctor/prove.py [--seconds 20] [--only NAME ...]

Each program is run as `python -m trivet.doctor run --prove` runs it. The table tells, for the finding that the corpus expects,
the verdict of the experiment and what the arms scored (fix against base, gain with its 95 % interval, placebo), or why nothing
was tried. Programs
that need packages of `requirements.txt` are left out where these are missing. Results with date and machine are kept in
`prove.md`.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from corpus import Program, load

from trivet.doctor.fixes import FIXES

TIMEOUT = 600.0


def prove(program: Program, seconds: float) -> tuple[str, str]:
    """Return the verdict of one program's experiment, or why there was none, and what the arms scored."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        command = [
            sys.executable,
            "-m",
            "trivet.doctor",
            "run",
            "--quiet",
            "--prove",
            "--prove-seconds",
            str(seconds),
        ]
        done = subprocess.run(
            [*command, "--json", str(told), str(program.path)],
            cwd=program.path.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if not told.exists():
            return "no answer", (done.stderr.strip().splitlines() or ["nothing was told"])[-1][:120]
        answer = json.loads(told.read_text())
    for finding in answer["findings"]:
        trial = finding["evidence"].get("experiment") if finding["name"] == program.expect else None
        if trial:
            return trial["result"], trial["sentence"].partition(": ")[2]
    failed = next((f["title"] for f in answer["findings"] if f["name"] == "script-failed"), "")
    if failed:
        return "not run", failed[:120]
    found = program.expect in [finding["name"] for finding in answer["findings"]]
    reasons = {item["name"]: item["reason"] for item in answer["not_checked"]}
    reason = reasons.get(f"proof of {program.expect}", "")
    return ("not tried" if found else "not found"), reason[:120]


def main() -> None:
    """Parse, run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of each experiment (20)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    given = parser.parse_args()
    programs = [p for p in load() if p.kind == "faulty" and p.expect in FIXES]
    programs = [p for p in programs if not given.only or p.name in given.only]
    counts: collections.Counter[str] = collections.Counter()
    print("| program | finding | verdict | measured |\n|---|---|---|---|")
    for program in programs:
        verdict, told = prove(program, given.seconds)
        counts[verdict] += 1
        print(f"| {program.name} | {program.expect} | {verdict} | {told} |", flush=True)
    print("\n" + ", ".join(f"{verdict}: {count}" for verdict, count in counts.most_common()))


if __name__ == "__main__":
    main()

"""`python -m trivet.doctor`: the doctor with torch and the standard library only."""

import argparse
import sys
from collections.abc import Sequence

from trivet.doctor.explain import explain, write_pages
from trivet.doctor.outputs import MisuseError, Options
from trivet.doctor.run import replay, run_script

MISUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0 fine, 1 an error was found or the script failed, 2 misuse."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        if given.verb == "explain":
            return _explain(given.name, given.write)
        options = Options(
            json=given.json,
            sarif=given.sarif,
            trace=getattr(given, "trace", None),
            stop_on=getattr(given, "stop_on", None),
            steps=getattr(given, "steps", None),
            quiet=given.quiet,
            verbose=given.verbose,
            prove=getattr(given, "prove", False),
            prove_seconds=getattr(given, "prove_seconds", 60.0),
        )
        if given.verb == "replay":
            return replay(given.trace_file, options)
        rest = list(given.rest)
        if given.module is not None:
            return run_script(given.module, rest, options, module=True)
        if not rest:
            raise MisuseError("which script? `python -m trivet.doctor run [OPTIONS] SCRIPT [ARGS...]`")
        return run_script(rest[0], rest[1:], options)
    except MisuseError as fault:
        print(f"error: {fault}", file=sys.stderr)  # noqa: T201
        return MISUSED


def _explain(name: str | None, folder: str | None) -> int:
    if folder is not None and name is None:
        write_pages(folder)
        return 0
    if name is None or folder is not None:
        raise MisuseError("either the NAME of a finding or --write FOLDER is wanted")
    print(explain(name))  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trivet.doctor", description="Say why training fails.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run a script, unchanged, and say what is wrong with its training")
    _add_outputs(run)
    run.add_argument("--trace", metavar="PATH", help="write what was recorded")
    run.add_argument(
        "--stop-on", choices=["error", "warning"], help="end the script at the first such finding"
    )
    run.add_argument("--steps", type=int, metavar="N", help="end the script after N optimizer steps")
    run.add_argument(
        "--prove", action="store_true", help="afterwards, train again with and without the remedy, on copies"
    )
    run.add_argument(
        "--prove-seconds", type=float, default=60.0, metavar="S", help="budget of time for that (60)"
    )
    run.add_argument("-m", dest="module", metavar="MODULE", help="run a module in the place of a script")
    run.add_argument("rest", nargs=argparse.REMAINDER, metavar="SCRIPT [ARGS...]")
    again = verbs.add_parser("replay", help="diagnose a recorded trace")
    _add_outputs(again)
    again.add_argument("trace_file", metavar="TRACE")
    about = verbs.add_parser("explain", help="say what a finding means")
    about.add_argument("name", nargs="?")
    about.add_argument("--write", metavar="FOLDER", help="write a page for each finding")
    return parser


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="PATH", help="write the findings as JSON; - is standard output")
    parser.add_argument("--sarif", metavar="PATH", help="write the findings as SARIF")
    parser.add_argument("--quiet", action="store_true", help="write no text")
    parser.add_argument(
        "--verbose", action="store_true", help="name every check that could not be made, and why"
    )


if __name__ == "__main__":
    sys.exit(main())

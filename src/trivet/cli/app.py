"""The program `trivet`: its verbs, and how errors leave it."""

import logging
import os
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from trivet.cli.audit import audit
from trivet.cli.compare import compare
from trivet.cli.demo import demo
from trivet.cli.doctor import doctor
from trivet.cli.export import export
from trivet.cli.fit import fit
from trivet.cli.models import models
from trivet.cli.plan import plan
from trivet.cli.predict import predict
from trivet.cli.score import score
from trivet.errors import StorageError, TrainingError, UsageError

FAILED, MISUSED = 1, 2
"""Exit codes: a failed run or findings of severity error; a call that cannot be carried out."""

# The base class of typer's parsing errors, which is click's or typer's own copy of it, by version.
ParsingError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="Build, train and score vision models on one modest machine, and be told why training fails.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (fit, score, predict, export, audit, models, plan, compare, demo):
    app.command()(verb)
app.add_typer(doctor, name="doctor")


@app.callback()
def _program(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    if debug:
        os.environ["TRIVET_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with its code.

    Args:
        arguments: What stands behind the program's name; the process's own when not given.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    # What Fabric announces (its precision, say) stands in the recipe; its warnings still come through.
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    if debug:
        given = ["--debug", *(word for word in given if word != "--debug")]
    try:
        result = app(given, prog_name="trivet", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except (UsageError, TrainingError, StorageError) as fault:
        if debug:
            raise
        _print_error(fault.message, fault.hint)
        return MISUSED if isinstance(fault, UsageError) else FAILED
    except ParsingError as fault:
        context = getattr(fault, "ctx", None)
        told = fault.format_message() if hasattr(fault, "format_message") else str(fault)
        _print_error(told, f"{context.command_path if context else 'trivet'} --help")
        return MISUSED
    except OSError as fault:
        if debug:
            raise
        place = f"{fault.filename}: " if fault.filename else ""
        _print_error(f"{place}{fault.strerror or fault}", "--debug shows where it happened")
        return FAILED
    except (typer.Abort, KeyboardInterrupt):
        _print_error("interrupted", None)
        return FAILED


def _print_error(message: str, hint: str | None) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("error:", style="bold red", end=" ")
    console.print(message, markup=False)
    if hint:
        console.print("hint:", style="bold cyan", end=" ")
        console.print(hint, markup=False)

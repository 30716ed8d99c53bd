"""`trivet doctor`."""

from collections.abc import Callable
from typing import Annotated, Literal

import typer

from trivet.errors import UsageError

doctor = typer.Typer(help="Say why training fails, of any PyTorch script.", no_args_is_help=True)

Json = Annotated[str | None, typer.Option(help="Write the findings as JSON; - is standard output.")]
Sarif = Annotated[str | None, typer.Option(help="Write the findings as SARIF.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Write no text.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Name every check that could not be made, and why.")]


@doctor.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    options_metavar="[OPTIONS]",
)
def run(
    script: Annotated[
        list[str], typer.Argument(metavar="SCRIPT [ARGS...]", help="Script, then its arguments.")
    ],
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is the name of a module.")] = False,
    json: Json = None,
    sarif: Sarif = None,
    trace: Annotated[str | None, typer.Option(help="Write what was recorded.")] = None,
    stop_on: Annotated[
        Literal["error", "warning"] | None, typer.Option(help="End the script at the first such finding.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="End the script after so many optimizer steps.")] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Afterwards, train again with and without the remedy, on copies.")
    ] = False,
    prove_seconds: Annotated[float, typer.Option(help="Budget of time for that.")] = 60.0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a script, unchanged, and say what is wrong with its training."""
    from trivet.doctor.outputs import Options
    from trivet.doctor.run import run_script

    options = Options(
        json=json,
        sarif=sarif,
        trace=trace,
        stop_on=stop_on,
        steps=steps,
        quiet=quiet,
        verbose=verbose,
        prove=prove,
        prove_seconds=prove_seconds,
    )
    _leave(lambda: run_script(script[0], script[1:], options, module=module))


@doctor.command()
def replay(
    trace: Annotated[str, typer.Argument(help="What `run --trace` has written.")],
    json: Json = None,
    sarif: Sarif = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Diagnose a recorded trace."""
    from trivet.doctor.outputs import Options
    from trivet.doctor.run import replay as replay_trace

    _leave(lambda: replay_trace(trace, Options(json=json, sarif=sarif, quiet=quiet, verbose=verbose)))


@doctor.command()
def explain(name: Annotated[str, typer.Argument(help="Name of a finding.")]) -> None:
    """Say what a finding means, why it hurts and what to do."""
    from trivet.doctor.explain import explain as explain_finding

    _leave(lambda: typer.echo(explain_finding(name)))


def _leave(work: Callable[[], int | None]) -> None:
    """Carry a verb out and leave with its exit code."""
    from trivet.doctor.outputs import MisuseError

    try:
        code = work()
    except MisuseError as fault:
        raise UsageError(str(fault)) from fault
    if code:
        raise typer.Exit(code)

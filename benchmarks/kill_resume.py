"""Kill a training run at random moments, resume it each time, and compare its weights with an undisturbed run's.

    python benchmarks/kill_resume.py [--kills 50] [--seed 0] [--folder kill-resume]

A detector learns drawn digits and saves its state three times a second. SIGKILL comes at a random time of the start, of
training (or the scoring after it), or when an unfinished checkpoint is seen on the disk. The run goes on with `resume`
until it has ended; when fewer kills than wanted happened by then, another run of the same recipe is begun and killed.
Both its last state and its best weights must be the undisturbed run's, bit by bit.
"""

import argparse
import os
import random
import select
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from trivet.data.digits import write_digits
from trivet.models.files import read_weights
from trivet.recipe.fit import fit, resume
from trivet.recipe.run_folder import RunFolder
from trivet.storage import UNFINISHED
from trivet.train import loop
from trivet.train.checkpoint import read_checkpoint
from trivet.train.loop import Listener
from trivet.train.state import TrainState

VALUES = {
    "train.epochs": 6,
    "train.batch": 4,
    "train.validations": 3,
    "model.size_hw": (64, 96),
    "model.pretrained": False,
    "model.options": {"channels": 32, "layers": 1, "tower_layers": 1},
    "data.workers": 0,
}
SAVE_SECONDS = 0.3
"""Between checkpoints."""
LONGEST_SECONDS = 3.0
"""A kill comes within this time."""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, default=Path("kill-resume"))
    given = options.parse_args()
    torch.set_num_threads(1)  # a forked child has only the thread that forked
    loop.SAVE_SECONDS = SAVE_SECONDS
    shutil.rmtree(given.folder, ignore_errors=True)
    data = write_digits(given.folder / "data", images={"train": 40, "val": 8, "test": 4}, size_hw=(80, 120))
    _child(lambda _: fit(data, VALUES, out=given.folder, name="whole", listeners=()), None)
    whole = RunFolder(given.folder / "whole-1")

    chance, kills, runs, equal = random.Random(given.seed), Counter[str](), 0, 0
    while sum(kills.values()) < given.kills:
        runs += 1
        killed = _killed_run(given.folder, data, runs, chance, most=given.kills - sum(kills.values()))
        kills += killed
        same = _same(whole, RunFolder(given.folder / f"killed-{runs}"))
        equal += same
        print(f"run {runs}: {sum(killed.values())} kills, {'equal' if same else 'DIFFERENT'}", flush=True)
    print(
        f"{sum(kills.values())} kills in {runs} runs, {equal} of them equal bit by bit to the undisturbed one"
    )
    print(", ".join(f"{count} {when}" for when, count in kills.most_common()))


def _killed_run(folder: Path, data: Path, number: int, chance: random.Random, *, most: int) -> Counter[str]:
    run = RunFolder(folder / f"killed-{number}")
    kills: Counter[str] = Counter()
    while True:
        started = run.recipe.is_file()
        if not started:
            shutil.rmtree(run.path, ignore_errors=True)  # killed before there was anything to resume

        def work(listener: Listener, started: bool = started) -> None:
            if started:
                resume(run.path, listeners=[listener])
            else:
                fit(data, VALUES, out=folder, name="killed", listeners=[listener])

        kill = None
        if sum(kills.values()) < most:
            kind = chance.choices(("starting", "training", "writing"), (1, 5, 5))[0]
            kill = Kill(run, kind, chance.uniform(0.0, LONGEST_SECONDS))
        how = _child(work, kill)
        if how is None:
            return kills
        kills[how] += 1


@dataclass(frozen=True)
class Kill:
    """A kill so many seconds after the process (`starting`) or its training began; `writing` waits for a checkpoint."""

    run: RunFolder
    kind: str
    seconds: float

    def unfinished(self, since: float) -> bool:
        """Whether a checkpoint is being written that an earlier process has not left behind."""
        path = self.run.checkpoint.with_name(f".{self.run.checkpoint.name}{UNFINISHED}")
        try:
            return path.stat().st_mtime > since
        except FileNotFoundError:
            return False


class Begun(Listener):
    """Tells the parent process that training begins."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def started(self, state: TrainState, steps_per_epoch: int) -> None:  # noqa: ARG002
        """Training begins."""
        os.write(self.pipe, b"1")


def _child(work: Callable[[Listener], None], kill: Kill | None) -> str | None:
    """Do work in a forked process, and kill it as told; returns when it was killed, or `None` if it ended."""
    reading, writing = os.pipe()
    since = time.time()
    process = os.fork()
    if process == 0:
        work(Begun(writing))
        os._exit(0)
    os.close(writing)
    try:
        if kill is None:
            _, status = os.waitpid(process, 0)
            assert status == 0, f"a process failed ({status})"
            return None
        if kill.kind != "starting":
            select.select([reading], [], [])
        due = time.monotonic() + kill.seconds
        while time.monotonic() < due or (kill.kind == "writing" and not kill.unfinished(since)):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                assert status == 0, f"a process failed ({status})"
                return None
            time.sleep(0.0002)
        writes = kill.unfinished(since)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return (
            "while a checkpoint was written"
            if writes
            else f"while {kill.kind.replace('writing', 'training')}"
        )
    finally:
        os.close(reading)


def _same(one: RunFolder, other: RunFolder) -> bool:
    first, second = read_checkpoint(one.checkpoint)[0], read_checkpoint(other.checkpoint)[0]
    best, best_too = read_weights(one.best).tensors, read_weights(other.best).tensors
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in ((first, second), (best, best_too))
    )


if __name__ == "__main__":
    main()

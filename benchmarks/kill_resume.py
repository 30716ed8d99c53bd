"""Kill a training run at random moments, resume it each time, and compare its weights with an undisturbed run's.

    python benchmarks/kill_resume.py [--kills 50] [--seed 0] [--folder kill-resume]

A detector learns drawn digits and saves its state after every step, so that many kills fall into the writing of a
checkpoint. SIGKILL comes after a random time, or, every other time, at the moment an unfinished checkpoint is seen on the
disk. The run goes on with `resume` until it has ended; when fewer kills than wanted happened by then, another run of the
same recipe is begun and killed. Both its last state and its best weights must be the undisturbed run's, bit by bit.
"""

import argparse
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import torch

from trivet.data.digits import write_digits
from trivet.models.files import read_weights
from trivet.recipe.fit import fit, resume
from trivet.recipe.run_folder import RunFolder
from trivet.storage import UNFINISHED
from trivet.train import loop
from trivet.train.checkpoint import read_checkpoint

VALUES = {
    "train.epochs": 6,
    "train.batch": 4,
    "train.validations": 3,
    "model.size_hw": (64, 96),
    "model.pretrained": False,
    "model.options": {"channels": 32, "layers": 1, "tower_layers": 1},
    "data.workers": 0,
}
LONGEST_SECONDS = 4.0
"""A kill comes within this time of a start."""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, default=Path("kill-resume"))
    given = options.parse_args()
    torch.set_num_threads(1)  # a forked child has only the thread that forked
    loop.SAVE_SECONDS = 0.0
    shutil.rmtree(given.folder, ignore_errors=True)
    data = write_digits(given.folder / "data", images={"train": 40, "val": 8, "test": 4}, size_hw=(80, 120))
    _child(lambda: fit(data, VALUES, out=given.folder, name="whole", listeners=()), None)
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

        def work(started: bool = started) -> None:
            if started:
                resume(run.path, listeners=())
            else:
                fit(data, VALUES, out=folder, name="killed", listeners=())

        kill = None
        if sum(kills.values()) < most:
            while_writing = chance.random() < 0.5
            kill = (run, chance.uniform(0.0, LONGEST_SECONDS), while_writing)
        how = _child(work, kill)
        if how is None:
            return kills
        kills[how] += 1


def _child(work, kill) -> str | None:
    """Do work in a forked process, and kill it as told; returns when it was killed, or `None` if it ended."""
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    if kill is None:
        _, status = os.waitpid(process, 0)
        assert status == 0, f"the undisturbed process failed ({status})"
        return None
    run, seconds, while_writing = kill
    unfinished = run.checkpoint.with_name(f".{run.checkpoint.name}{UNFINISHED}")
    begun, ended = time.monotonic(), 0
    while time.monotonic() - begun < seconds or (while_writing and not unfinished.exists()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            assert status == 0, f"a resumed process failed ({status})"
            return None
        time.sleep(0.0005)
    moment = _moment(run, unfinished)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return moment


def _moment(run: RunFolder, unfinished: Path) -> str:
    if unfinished.exists():
        return "while a checkpoint was written"
    if not run.checkpoint.is_file():
        return "before the first checkpoint"
    return "between checkpoints, in a step, a validation or the final scoring"


def _same(one: RunFolder, other: RunFolder) -> bool:
    first, second = read_checkpoint(one.checkpoint)[0], read_checkpoint(other.checkpoint)[0]
    best, best_too = read_weights(one.best).tensors, read_weights(other.best).tensors
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in ((first, second), (best, best_too))
    )


if __name__ == "__main__":
    main()

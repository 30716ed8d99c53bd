"""Slow-down and memory of a training step under the doctor, on three models.

    python benchmarks/doctor/overhead.py [--seconds 60] [--families 8] [--threads 1] [--clock wall|processor] [--only MODEL ...]
        [--keep-memory]
    python benchmarks/doctor/overhead.py --fixed

Three forks of one process train the same model: plain, watched, and plain again. They work in turn, each for a block of
half a second while the others wait, so that the machine's drift hits all alike, and each block is compared with the one
before it of the same round. The two plain forks against each other are the noise floor: what differs by less means
nothing. Where a fork's memory happens to lie makes a step of a millisecond faster or slower by percents for as long as it
lives: the seconds are shared by several families of three forks, and the spread is told over the families too. Before anything is timed the watched fork trains through what costs once: the dense first steps, and what the
watches of the data may take before they are held to a share. That is told apart, in seconds. What is measured is the
rest of a long training, recorded steps included: `median` is that of the families, `whole` the time of all blocks together.
Processor time, on a machine that others use, leaves out waiting, not what they do to the caches.
glibc gives memory back to the system, or not, by what was allocated before: `--keep-memory` has all forks keep what they free,
so that they differ by the doctor alone.
With `--fixed`: microseconds that watching adds to a step that hardly computes, long after everything that is done once;
the same for every model. Results with date and machine are kept in `overhead.md`.
"""

import argparse
import os
import resource
import statistics
import struct
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from trivet.doctor.probe.session import DENSE_STEPS
from trivet.doctor.watch import watch
from trivet.models.build import build_model
from trivet.train.allocator import keep_freed_memory

Step = Callable[[], None]


def classifier_step(model: nn.Module, values: torch.Tensor, classes: int) -> tuple[nn.Module, Step]:
    labels = torch.arange(len(values)) % classes
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(values), labels).backward()
        optimizer.step()

    return model, step


def resnet() -> tuple[nn.Module, Step]:
    return classifier_step(resnet18(num_classes=10), torch.randn(8, 3, 32, 32), 10)


def mlp() -> tuple[nn.Module, Step]:
    layers = [nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    return classifier_step(nn.Sequential(*layers), torch.randn(128, 128), 10)


def detector() -> tuple[nn.Module, Step]:
    model = build_model("efficientdet_lite0", classes=20, pretrained=False, size_hw=(320, 320))
    images = torch.randn(2, 3, 320, 320)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        output = model(images)
        levels = [*output.class_logits, *output.box_deltas]
        torch.stack([level.float().square().mean() for level in levels]).sum().backward()
        optimizer.step()

    return model, step


CASES = {"mlp": (mlp, 4000), "resnet18": (resnet, 250), "efficientdet_lite0": (detector, 5)}
"""Name -> what makes the model and its step, and steps of warming up after the dense ones."""
BLOCK = 0.5
"""Seconds of a block."""
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def seconds_of(step: Step, steps: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds a step, over so many."""
    began = clock()
    for _ in range(steps):
        step()
    return (clock() - began) / steps


class Fork:
    """A fork of this process that trains when told to."""

    def __init__(
        self, model: nn.Module, step: Step, watched: bool, warm: int, clock: Callable[[], float]
    ) -> None:
        order, self._order = os.pipe()
        self._answer, answer = os.pipe()
        self._child = os.fork()
        if self._child:
            return
        with watch(model) if watched else nullcontext():
            began = clock()
            seconds_of(step, DENSE_STEPS + warm)
            os.write(answer, struct.pack("d", clock() - began))
            while (steps := struct.unpack("q", os.read(order, 8))[0]) > 0:
                os.write(answer, struct.pack("d", seconds_of(step, steps, clock)))
        os._exit(0)

    def answer(self) -> float:
        """Seconds of the warming up at first, then of a step in each block."""
        return float(struct.unpack("d", os.read(self._answer, 8))[0])

    def train(self, steps: int) -> float:
        """Train a block; returns seconds a step."""
        os.write(self._order, struct.pack("q", steps))
        return self.answer()

    def end(self) -> None:
        """End the fork."""
        os.write(self._order, struct.pack("q", 0))
        os.waitpid(self._child, 0)


def train_family(
    make: Callable[[], tuple[nn.Module, Step]], seconds: float, warm: int, clock: Callable[[], float]
) -> tuple[list[list[float]], float]:
    """Train three forks in turn for so many seconds; returns seconds a step of each block, and what is done once."""
    torch.manual_seed(0)
    model, step = make()
    forks, warming = [], []
    for watched in (False, True, False):  # one after the other: each warms up alone
        forks.append(Fork(model, step, watched, warm, clock))
        warming.append(forks[-1].answer())
    steps = max(1, round(BLOCK / forks[0].train(max(1, warm // 10))))
    until = time.monotonic() + seconds
    blocks: list[list[float]] = []
    while time.monotonic() < until or len(blocks) < 3:
        blocks.append([fork.train(steps) for fork in forks])
    for fork in forks:
        fork.end()
    return blocks, warming[1] - (warming[0] + warming[2]) / 2


def measure(
    make: Callable[[], tuple[nn.Module, Step]],
    seconds: float,
    families: int,
    warm: int,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Share the seconds among so many families of forks; returns times and ratios."""
    found = [train_family(make, seconds / families, warm, clock) for _ in range(families)]
    blocks = [block for rows, _ in found for block in rows]
    return {
        "rounds": len(blocks),
        "step_ms": 1000 * statistics.median(row[0] for row in blocks),
        "once": statistics.median(once for _, once in found),
        **spread("", [_ratio(rows, _slower) for rows, _ in found], _ratio(blocks, _slower)),
        **spread("agree_", [_ratio(rows, _disagree) for rows, _ in found], _ratio(blocks, _disagree)),
    }


def _slower(one: float, watched: float, two: float) -> float:
    return watched / ((one + two) / 2) - 1


def _disagree(one: float, _: float, two: float) -> float:
    return two / one - 1


def _ratio(blocks: list[list[float]], of: Callable[[float, float, float], float]) -> float:
    """A ratio of the time of all blocks together."""
    one, watched, two = (sum(column) for column in zip(*blocks, strict=True))
    return of(one, watched, two)


def spread(name: str, families: list[float], whole: float) -> dict[str, float]:
    """Median and quartiles over the families, and what they give together."""
    ordered = sorted(families)
    return {
        f"{name}median": statistics.median(ordered),
        f"{name}low": ordered[len(ordered) // 4],
        f"{name}high": ordered[-1 - len(ordered) // 4],
        f"{name}whole": whole,
    }


def fixed_cost(steps: int = 250, repeats: int = 12, warm: int = 10_000) -> tuple[float, float]:
    """Processor microseconds a step of a network of 5 tiny layers takes plain, and how many more it takes watched."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    model, step = classifier_step(model, torch.randn(8, 4), 3)

    def least() -> float:
        return 1e6 * min(seconds_of(step, steps, time.process_time) for _ in range(repeats))

    seconds_of(step, steps)
    plain = least()
    with watch(model):
        seconds_of(step, warm)
        watched = least()
    plain = (plain + least()) / 2
    return plain, watched - plain


def memory_of(make: Callable[[], tuple[nn.Module, Step]], watched: bool) -> float:
    """Peak memory in MB of a process that trains, with or without the doctor."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        torch.manual_seed(0)
        model, step = make()
        if watched:
            with watch(model):
                seconds_of(step, DENSE_STEPS + 5)
        else:
            seconds_of(step, DENSE_STEPS + 5)
        os.write(writing, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return float(os.read(reading, 64))


def main() -> None:
    """Parse, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, for each model")
    parser.add_argument(
        "--families",
        type=int,
        default=8,
        help="of forks, each with memory of its own, that share the seconds",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="MODEL")
    parser.add_argument(
        "--keep-memory", action="store_true", help="no fork gives freed memory back to the system"
    )
    parser.add_argument("--fixed", action="store_true", help="only what a step of next to nothing takes more")
    given = parser.parse_args()
    if given.fixed:
        torch.set_num_threads(1)
        print("a step takes {:.0f} us plain, and {:.1f} us more when watched".format(*fixed_cost()))
        return
    if given.keep_memory:
        keep_freed_memory()
    torch.set_num_threads(given.threads)  # threads themselves are begun in the forks
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, torch {torch.__version__}\n")
    print(
        "| model | step | slower when watched: median (quartiles), whole | plain against plain, the same "
        "| once, seconds | MB plain | MB watched |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in given.only:
        make, warm = CASES[name]
        plain, watched = memory_of(make, False), memory_of(make, True)
        found = measure(make, given.seconds, given.families, warm, CLOCKS[given.clock])
        print(
            "| {} | {step_ms:.2f} ms | {median:+.1%} ({low:+.1%} to {high:+.1%}), {whole:+.1%} "
            "| {agree_median:+.1%} ({agree_low:+.1%} to {agree_high:+.1%}), {agree_whole:+.1%}, {rounds} rounds "
            "| {once:.2f} | {:.0f} | {:.0f} |".format(name, plain, watched, **found),
            flush=True,
        )


if __name__ == "__main__":
    main()

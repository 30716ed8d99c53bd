"""Slow-down and memory of a training step under the doctor, on three models.

    python benchmarks/doctor/overhead.py [--rounds 9] [--steps 60] [--warm 20] [--threads 1] [--clock wall|processor]
    python benchmarks/doctor/overhead.py --fixed

Blocks of steps run in turn in one process: plain, watched, plain again. Each ratio compares neighbours, so that the
machine's drift hits both alike; the two plain blocks of a round must agree, or the machine is too busy for the result to
mean anything. A watched block begins after steps that are reported apart, as seconds that watching costs once: the dense
first steps, and what the watches of the data may take before they are held to a share. What is measured is the rest of a
long training. Processor time, on a machine that others use, leaves out waiting, not what they do to the caches.
With `--fixed`: microseconds that watching adds to a step that hardly computes, long after everything that is done once;
the same for every model, but for what its layers add. Results with date and machine are kept in `overhead.md`.
"""

import argparse
import gc
import os
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from trivet.doctor.probe.session import DENSE_STEPS
from trivet.doctor.watch import watch
from trivet.models.build import build_model

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
    return classifier_step(nn.Sequential(*layers), torch.randn(64, 128), 10)


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


CASES = {
    "MLP, 128-256-256-10, batch 64": (mlp, 20),
    "ResNet-18 at 32 px, batch 8": (resnet, 1),
    "EfficientDet-lite0 at 320 px, batch 2": (detector, 1),
}
"""Name -> what makes the model and its step, and how many times the steps of a block are taken."""


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def seconds_of(step: Step, steps: int, clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    for _ in range(steps):
        step()
    return (clock() - began) / steps


def measure(
    make: Callable[[], tuple[nn.Module, Step]], rounds: int, steps: int, warm: int, clock: Callable[[], float]
) -> dict[str, float]:
    torch.manual_seed(0)
    model, step = make()
    seconds_of(step, 5)
    slow, agree, once, plain = [], [], [], []
    for _ in range(rounds):
        before = seconds_of(step, steps, clock)
        with watch(model):
            first = seconds_of(step, DENSE_STEPS + warm, clock)
            watched = seconds_of(step, steps, clock)
        after = seconds_of(step, steps, clock)
        base = (before + after) / 2
        slow.append(watched / base - 1)
        agree.append(after / before - 1)
        once.append((first - base) * (DENSE_STEPS + warm))
        plain.append(base)
    return {
        "step_ms": 1000 * statistics.median(plain),
        "slower": statistics.median(slow),
        "once": statistics.median(once),
        "agree": statistics.median(agree),
        "spread": statistics.median(abs(value) for value in agree),
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--fixed", action="store_true", help="only what a step of next to nothing takes more")
    given = parser.parse_args()
    if given.fixed:
        torch.set_num_threads(1)
        print("a step takes {:.0f} us plain, and {:.1f} us more when watched".format(*fixed_cost()))
        return
    memory = {}
    for name, (make, _) in CASES.items():  # before anything runs in threads: a forked child cannot use them
        memory[name] = memory_of(make, False), memory_of(make, True)
    torch.set_num_threads(given.threads)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, torch {torch.__version__}")
    print(
        "| model | step | slower when watched | once, seconds | plain against plain | MB plain | MB watched |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (make, times) in CASES.items():
        gc.collect()
        clock = CLOCKS[given.clock]
        found = measure(make, given.rounds, given.steps * times, given.warm * times, clock)
        print(
            f"| {name} | {found['step_ms']:.1f} ms | {found['slower']:+.1%} | {found['once']:.2f} "
            f"| {found['agree']:+.1%} (median difference {found['spread']:.1%}) "
            f"| {memory[name][0]:.0f} | {memory[name][1]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

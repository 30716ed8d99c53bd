"""How much memory training takes, what fits, and with what margin."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from trivet.memory.cpu_scratch import cpu_scratch
from trivet.memory.cuda_autocast import CudaAutocast
from trivet.memory.example import count_examples, example_at
from trivet.memory.ledger import Curve
from trivet.memory.plain_step import Loss, MakesOptimizer, PlainStep
from trivet.memory.replay import reserved
from trivet.memory.step import BATCHES, account
from trivet.memory.tracker import Scratch

MIB, GIB = 1 << 20, 1 << 30
Device = Literal["cuda", "cpu"]
Precision = Literal["32", "bf16", "16"]
LOW_PRECISION: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "16": torch.float16}

CUDA_CONTEXT = 1315 * MIB
"""The CUDA context, the libraries' loaded kernels and their workspaces: one number, the median of what a process takes
beyond its allocator in the ResNet-50 series measured on an H100 (`benchmarks/plan_gpu.md`). Smaller cards take less."""
CPU_CONTEXT = 12 * MIB
"""What oneDNN's generated code and Python's objects add to the heap during training (`benchmarks/plan_accuracy.md`)."""
CPU_PROGRAM = 820 * MIB
"""The resident memory of `fit` when its model is made: Python, Trivet and its libraries, and what reading the data left."""
CPU_KEPT = 0.17
"""What the C library's heap keeps between blocks, as a share of what is alive (`benchmarks/plan_accuracy.md`)."""
MARGINS: Mapping[str, float] = {"cuda": 0.03, "cpu": 0.05}
"""Share of the prediction by which the truth may lie above it."""
MOST = 1 << 16
"""Batches are looked for up to this one."""


@dataclass(frozen=True)
class MemoryPlan:
    """What training takes at every batch size.

    Args:
        curve: What is alive when, at any batch.
        device: `cuda` adds the context and what the caching allocator keeps; `cpu` what the program itself takes.
        correction: Bytes to add to the context: what a measurement on the device itself found.
    """

    curve: Curve
    device: Device = "cuda"
    correction: int = 0

    @property
    def context(self) -> int:
        """Bytes that are there whatever the model."""
        own = CUDA_CONTEXT if self.device == "cuda" else CPU_CONTEXT + CPU_PROGRAM
        return own + self.correction

    @property
    def margin(self) -> float:
        """Share of the prediction by which the truth may lie above it, 0-1."""
        return MARGINS[self.device]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed where sizes depend on values, in words."""
        return tuple(self.curve.ledger.notes)

    @cached_property
    def _totals(self) -> dict[int, int]:
        return {}

    def alive(self, batch: int) -> int:
        """Return the most bytes of tensors that are alive at one time."""
        return int(self.curve.peak(batch))

    def total(self, batch: int) -> int:
        """Return the bytes of the process: on the device for CUDA, resident for a CPU."""
        if batch not in self._totals:
            cuda = self.device == "cuda"
            taken = reserved(self.curve, batch) if cuda else self.alive(batch) * (1 + CPU_KEPT)
            self._totals[batch] = int(taken) + self.context
        return self._totals[batch]

    def with_margin(self, batch: int) -> int:
        """Return the bytes that training surely stays below."""
        return int(self.total(batch) * (1 + self.margin))

    def fits(self, batch: int, memory: int) -> bool:
        """Tell whether a batch fits into this many bytes, margin included."""
        if self.alive(batch) + self.context > memory:
            return False  # which is known long before the allocator has been imitated
        return self.with_margin(batch) <= memory

    def largest_batch(self, memory: int, *, most: int = MOST) -> int:
        """Return the largest batch that fits into this many bytes; 0 where none does."""
        if not self.fits(1, memory):
            return 0
        low, high = 1, 2
        while high <= most and self.fits(high, memory):
            low, high = high, high * 2
        high = min(high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(middle, memory) else (low, middle)
        return low

    def parts(self, batch: int) -> dict[str, int]:
        """Return the bytes of the whole by what they are for, at the moment of the peak; they sum up to `total`."""
        found = {kind: int(size) for kind, size in self.curve.at_peak(batch).items() if size >= 1}
        found["kept by the allocator"] = self.total(batch) - self.context - sum(found.values())
        found["context and workspace" if self.device == "cuda" else "program"] = self.context
        return found

    def corrected(self, batch: int, measured: int) -> "MemoryPlan":
        """Return the plan whose context agrees with what a process was measured to take at a batch."""
        return MemoryPlan(self.curve, self.device, self.correction + measured - self.total(batch))


def plan_memory(
    module: nn.Module,
    example_inputs: object,
    loss: Loss | None,
    optimizer: MakesOptimizer,
    *,
    example_targets: object = (),
    device: Device = "cuda",
    precision: Precision = "32",
    average: bool = False,
    keep_gradients: bool = False,
    real: bool = False,
) -> MemoryPlan:
    """Plan the memory of training any module, without the device and, unless `real`, without allocating anything large.

    The step that is planned: forward pass (under autocast, if the precision is mixed), loss, backward pass, optimizer,
    gradients set to `None`. It runs twice on fake tensors, with as many examples as are given (at least 2) and with
    twice as many, and every storage becomes a straight line over the batch.

    Args:
        module: Any module; it is not changed. Its weights may be real, fake or on the meta device.
        example_inputs: What it is called with: a tensor; a tuple or list of arguments; or a mapping of arguments by
            name. An argument is a tensor or a plain value, or lists, tuples and mappings of them. The examples of the
            batch are the first side of each tensor `(batch, ...)` and the items of each list within the arguments
            (a detector's images and targets), whose tensors may have any shape. For anything else, a function of the
            batch size that returns such inputs. Tensors of up to 65,536 numbers an example keep their values; of
            larger ones only shape, layout and type matter. They may be fake or on the meta device.
        loss: Called with the output and the targets; returns a scalar. `None` where the module returns its own: a
            scalar, an object or mapping with a `loss`, or a mapping of scalar losses, which are added.
        optimizer: One made for the module's parameters, or a function of parameters that makes one.
        example_targets: What the loss is called with after the output, in the forms of `example_inputs`.
        device: Where it will train.
        precision: `32`, or `bf16` or `16` for mixed precision.
        average: Whether an average of the weights is kept beside them.
        keep_gradients: Whether gradients stay from step to step instead of being set to `None` (`zero_grad`'s default).
        real: Whether a copy of the module takes real steps on this machine's CPU, in its memory, instead of steps on
            fake tensors: for code whose sizes depend on values it computes (boxes that are suppressed, tokens that
            are routed). The sizes are those of the third step from the given weights with the given example, which
            should be typical; where they grow as the module learns, give trained weights.

    Raises:
        ValueError: If the example is none of these or its batch sizes differ, no loss is found, the optimizer cannot
            be made again, or the step asks for values that fake tensors have not; then the line that asks is named.

    Example:
        >>> model = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))
        >>> plan = plan_memory(model, torch.empty(1, 1000), lambda out: out.mean(), torch.optim.SGD, device="cpu")
        >>> plan.largest_batch(4 << 30) > 1000
        True
    """
    if precision not in ("32", *LOW_PRECISION):
        raise ValueError(f"precision is 32, bf16 or 16, got {precision!r}")
    if device not in MARGINS:
        raise ValueError(f"device is cuda or cpu, got {device!r}")
    few = max(
        BATCHES[0], count_examples({"example_inputs": example_inputs, "example_targets": example_targets})
    )

    def prepare(batch: int) -> PlainStep:
        step = PlainStep(
            module,
            example_at(example_inputs, batch, real=real),
            example_at(example_targets, batch, real=real),
            loss,
            optimizer,
            as_on=partial(as_on, device, LOW_PRECISION.get(precision)),
            average=average,
            keeps_gradients=keep_gradients,
            real=real,
        )
        step_as_on(device, step.optimizer())
        return step

    curve = account(prepare, batches=(few, 2 * few), scratch=scratch_of(device), real=real)
    return MemoryPlan(curve, device)


def scratch_of(device: Device) -> Scratch | None:
    """Return the rule for what operators allocate while they run on a device."""
    return cpu_scratch if device == "cpu" else None


def as_on(device: Device, dtype: torch.dtype | None = None) -> AbstractContextManager:
    """Return a context in which fake CPU tensors are treated as the device treats its own.

    Args:
        device: Where it will train.
        dtype: What autocast computes in; `None` enables none here.
    """
    stack = ExitStack()
    if device == "cuda":
        stack.enter_context(CudaAutocast())
    if dtype is not None:
        stack.enter_context(torch.autocast("cpu", dtype=dtype))
    return stack


def step_as_on(device: Device, optimizer: Optimizer) -> None:
    """Let an optimizer of fake CPU tensors step as it would on the device: on CUDA, all parameters at once."""
    if device == "cuda":
        for group in optimizer.param_groups:
            if group.get("foreach", False) is None and not group.get("fused"):
                group["foreach"] = True

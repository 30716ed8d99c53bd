"""How much memory training takes, what fits, and with what margin."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trivet.memory.cpu_scratch import cpu_scratch
from trivet.memory.cuda_autocast import CudaAutocast
from trivet.memory.ledger import INPUT, LOSS, WEIGHTS, Curve
from trivet.memory.replay import reserved
from trivet.memory.step import Step, account, fake_copy, fake_like

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
    example_inputs: Tensor | Sequence[Tensor],
    loss: Callable[..., Tensor],
    optimizer: Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer],
    *,
    example_targets: Sequence[Tensor] = (),
    device: Device = "cuda",
    precision: Precision = "32",
    average: bool = False,
    keep_gradients: bool = False,
) -> MemoryPlan:
    """Plan the memory of training any module, without the device and without allocating anything large.

    The step that is planned: forward pass (under autocast, if the precision is mixed), loss, backward pass, optimizer,
    gradients set to `None`. It runs twice on fake tensors at two batch sizes, and every storage becomes a straight line
    over the batch.

    Args:
        module: Any module; it is not changed. Its weights may be real, fake or on the meta device.
        example_inputs: What it is called with; only shapes, layouts and types matter. The first side is the batch.
        loss: Called with the output and the targets; returns a scalar.
        optimizer: One made for the module's parameters, or a function of parameters that makes one.
        example_targets: Tensors for the loss; their first side is the batch.
        device: Where it will train.
        precision: `32`, or `bf16` or `16` for mixed precision.
        average: Whether an average of the weights is kept beside them.
        keep_gradients: Whether gradients stay from step to step instead of being set to `None` (`zero_grad`'s default).

    Raises:
        ValueError: If the optimizer cannot be made again, or the step uses something whose size depends on values.

    Example:
        >>> model = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))
        >>> plan = plan_memory(model, torch.empty(1, 1000), lambda out: out.mean(), torch.optim.SGD, device="cpu")
        >>> plan.largest_batch(4 << 30) > 1000
        True
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    if precision not in ("32", *LOW_PRECISION):
        raise ValueError(f"precision is 32, bf16 or 16, got {precision!r}")
    if device not in MARGINS:
        raise ValueError(f"device is cuda or cpu, got {device!r}")

    def prepare(batch: int) -> Step:
        return _PlainStep(
            module,
            inputs,
            tuple(example_targets),
            loss,
            optimizer,
            batch,
            device,
            LOW_PRECISION.get(precision),
            average,
            keep_gradients,
        )

    return MemoryPlan(account(prepare, scratch=scratch_of(device)), device)


def scratch_of(device: Device) -> Callable[[Any, tuple], int] | None:
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


class _PlainStep:
    """A plain training step of a module."""

    def __init__(
        self,
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        targets: tuple[Tensor, ...],
        loss: Callable[..., Tensor],
        optimizer: Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer],
        batch: int,
        device: Device,
        dtype: torch.dtype | None,
        average: bool,
        keeps_gradients: bool,
    ) -> None:
        self.module = fake_copy(module).train()
        self.average: list[Tensor] = list(fake_copy(module).parameters()) if average else []
        self.inputs = [fake_like(tensor, batch=batch) for tensor in inputs]
        self.targets = [fake_like(tensor, batch=batch) for tensor in targets]
        self.loss, self.device, self.dtype = loss, device, dtype
        self.keeps_gradients = keeps_gradients
        self._optimizer = _again(optimizer, module, self.module)
        step_as_on(device, self._optimizer)

    def parts(self) -> dict[str, list[Tensor]]:
        weights: list[Tensor] = [*self.module.parameters(), *self.module.buffers()]
        return {WEIGHTS: weights, "averaged weights": self.average, INPUT: self.inputs, LOSS: self.targets}

    def optimizer(self) -> Optimizer:
        return self._optimizer

    def run(self) -> None:
        with as_on(self.device, self.dtype):
            output = self.module(*self.inputs)
            loss = self.loss(output, *self.targets)
        del output
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=not self.keeps_gradients)


def _again(
    optimizer: Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer], module: nn.Module, fake: nn.Module
) -> Optimizer:
    """Return the same kind of optimizer for the fake parameters."""
    if not isinstance(optimizer, Optimizer):
        return optimizer(fake.parameters())
    twins = {id(real): twin for real, twin in zip(module.parameters(), fake.parameters(), strict=True)}
    try:
        groups = [
            {**copy.copy(group), "params": [twins[id(parameter)] for parameter in group["params"]]}
            for group in optimizer.param_groups
        ]
        known = inspect.signature(type(optimizer)).parameters
        return type(optimizer)(
            groups, **{key: value for key, value in optimizer.defaults.items() if key in known}
        )
    except (KeyError, TypeError) as fault:
        raise ValueError(
            f"cannot make {type(optimizer).__name__} again for the planned parameters ({fault!r}); "
            "give a function of parameters that makes the optimizer"
        ) from fault

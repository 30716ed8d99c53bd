"""Run a script with another doctor attached: `python peer_run.py DOCTOR OUT SCRIPT`.

These doctors want a model, a batch, a loss and an optimizer. All four are taken from the script itself while it runs,
without changing it: the outermost module called in a training step, its arguments, the loss function its output goes
into, and the optimizer that shares most parameters with it. What they say is written to OUT in one common form.
"""

import contextlib
import io
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

LOSSES = [
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div",
]  # fmt: skip
MODELS = 3


class Watch:
    """What the script has done so far.

    Args:
        attach: Called with (model, optimizer) before the first training call of a model.
        after_first: Called with (model, arguments, loss function or None, target, optimizer) of the first backward
            pass through a model; called after the optimizer's step, when no backward pass is under way that a check
            which changes and restores weights would break.
        after_step: Called with (optimizer, last loss) after each optimizer step.
    """

    def __init__(self, attach: Callable, after_first: Callable, after_step: Callable) -> None:
        self.attach, self.after_first, self.after_step = attach, after_first, after_step
        self.optimizers: list[torch.optim.Optimizer] = []
        self.attached: list[nn.Module] = []
        self.checked: list[nn.Module] = []
        self.calls: dict[int, tuple[nn.Module, tuple, dict, object]] = {}
        self.losses: list[tuple[Callable, torch.Tensor, torch.Tensor, dict]] = []
        self.waiting: list[tuple] = []
        self.has_stepped = False
        self.depth = 0
        self.busy = False
        self.last_loss = float("nan")

    def optimizer_of(self, model: nn.Module) -> torch.optim.Optimizer | None:
        """Return the optimizer that holds most of a model's parameters, else the newest."""
        own = {id(p) for p in model.parameters()}

        def shared(optimizer: torch.optim.Optimizer) -> int:
            return sum(id(p) in own for group in optimizer.param_groups for p in group["params"])

        return max(reversed(self.optimizers), key=shared, default=None)

    def is_new(self, model: nn.Module, known: list[nn.Module]) -> bool:
        """Whether a module is a model worth looking at that has not been looked at."""
        trains = any(p.requires_grad for p in model.parameters())
        return trains and len(known) < MODELS and not any(model is other for other in known)

    def install(self) -> None:
        """Wrap calls of modules, losses, backward passes and optimizers for the rest of the process."""
        watch, call, backward = self, nn.Module.__call__, torch.Tensor.backward
        build = torch.optim.Optimizer.__init__

        def watched_call(module: nn.Module, *args: object, **kwargs: object) -> object:
            if watch.busy or watch.depth or not torch.is_grad_enabled():
                return call(module, *args, **kwargs)
            if watch.has_stepped:
                watch.look()
            if module.training and watch.optimizers and watch.is_new(module, watch.attached):
                watch.attached.append(module)
                watch.quietly(watch.attach, module, watch.optimizer_of(module))
            watch.depth += 1
            try:
                output = call(module, *args, **kwargs)
            finally:
                watch.depth -= 1
            watch.calls[id(module)] = (module, args, kwargs, output)
            return output

        def watched_backward(loss: torch.Tensor, *args: object, **kwargs: object) -> None:
            if watch.busy:
                return backward(loss, *args, **kwargs)
            with contextlib.suppress(Exception):
                watch.last_loss = float(loss.detach())
            for module, inputs, named, output in list(watch.calls.values()):
                if watch.is_new(module, watch.checked) and watch.optimizers:
                    watch.checked.append(module)
                    function, target = watch.loss_of(output)
                    inputs = named if named and not inputs else inputs
                    watch.waiting.append((module, inputs, function, target, watch.optimizer_of(module)))
            watch.calls.clear()
            watch.losses.clear()
            return backward(loss, *args, **kwargs)

        def watched_build(optimizer: torch.optim.Optimizer, *args: object, **kwargs: object) -> None:
            build(optimizer, *args, **kwargs)
            if not watch.busy:
                watch.optimizers.append(optimizer)
                optimizer.register_step_post_hook(lambda which, _a, _k: watch.stepped(which))

        nn.Module.__call__, torch.Tensor.backward = watched_call, watched_backward
        torch.optim.Optimizer.__init__ = watched_build
        for name in LOSSES:
            setattr(F, name, self.watched_loss(getattr(F, name)))

    def watched_loss(self, function: Callable) -> Callable:
        """Return a loss function that remembers what it was called with."""

        def remember(
            output: torch.Tensor, target: torch.Tensor, *args: object, **kwargs: object
        ) -> torch.Tensor:
            if not self.busy and torch.is_grad_enabled():
                self.losses.append((lambda o, t: function(o, t, *args, **kwargs), output, target, kwargs))
            return function(output, target, *args, **kwargs)

        return remember

    def loss_of(self, output: object) -> tuple[Callable | None, object]:
        """Return the loss function that was given a model's output, with its target; None when there is none."""
        for function, given, target, _ in reversed(self.losses):
            if given is output:
                return function, target
            if isinstance(output, torch.Tensor) and given.numel() == output.numel():
                shape = given.shape[1:]
                return (lambda o, t, f=function, s=shape: f(o.reshape(-1, *s), t)), target
        return None, None

    def look(self) -> None:
        """Let the doctor look at the models that wait for it."""
        while self.waiting:
            self.quietly(self.after_first, *self.waiting.pop(0))

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """Tell the doctor that an optimizer has stepped."""
        if not self.busy:
            self.has_stepped = True
            self.quietly(self.after_step, optimizer, self.last_loss)

    def quietly(self, function: Callable, *args: object) -> None:
        """Call the doctor; it may print and fail, but not disturb the script."""
        self.busy = True
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                function(*args)
        except Exception as error:
            print(f"the doctor failed: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            self.busy = False


def torchtest2(said: list[dict]) -> tuple[Watch, Callable]:
    """One call a model, after its first step."""
    from torchtest2 import check_model

    severity = {"FAIL": "error", "WARN": "warning"}

    def check(
        model: nn.Module, inputs: object, function: Callable | None, target: object, optimizer: object
    ) -> None:
        report = check_model(model, inputs, target, loss_fn=function, optimizer=optimizer)
        for result in report.results:
            if result.status.value in severity:
                said.append(
                    {"name": result.name, "severity": severity[result.status.value], "title": result.message}
                )

    return Watch(lambda *_: None, check, lambda *_: None), lambda: None


def torch_audit(said: list[dict]) -> tuple[Watch, Callable]:
    """Its zero-touch mode, auditing every tenth step."""
    from torch_audit import autopatch

    auditors = []
    severity = {"ERROR": "error", "FATAL": "error", "WARN": "warning", "INFO": "note"}

    def attach(model: nn.Module, optimizer: object) -> None:
        auditors.append(
            autopatch(model, optimizer=optimizer, every_n_steps=10, reporters=[], run_static=True)
        )

    def finish() -> None:
        seen = set()
        for auditor in auditors:
            for finding in auditor.finish(report=False).findings:
                key = (finding.rule_id, finding.module_path)
                if key not in seen:
                    seen.add(key)
                    level = severity.get(getattr(finding.severity, "name", str(finding.severity)), "note")
                    said.append({"name": finding.rule_id, "severity": level, "title": finding.message})

    return Watch(attach, lambda *_: None, lambda *_: None), finish


def torchmortem(said: list[dict]) -> tuple[Watch, Callable]:
    """Its context manager around the whole training, told every step's loss."""
    from torchmortem import Autopsy

    open_ones: list[tuple[object, object]] = []
    severity = {"CRITICAL": "error", "WARNING": "warning", "INFO": "note"}

    def attach(model: nn.Module, optimizer: object) -> None:
        autopsy = Autopsy(model, optimizer=optimizer)
        autopsy.attach()
        open_ones.append((autopsy, optimizer))

    def after_step(optimizer: object, loss: float) -> None:
        for autopsy, own in open_ones:
            if own is optimizer:
                autopsy.step(loss=loss)

    def finish() -> None:
        for autopsy, _ in open_ones:
            autopsy.detach()
            for finding in autopsy.get_report().findings:
                words = {
                    "vanish": "vanishing",
                    "explod": "exploding",
                    "stall": "stalling",
                    "too low": "low",
                    "too high": "high",
                }
                kind = next((word for piece, word in words.items() if piece in finding.title.lower()), "")
                split = finding.category in ("gradient_flow", "update_ratio") and kind
                name = f"{finding.category}/{kind}" if split else finding.category
                said.append(
                    {"name": name, "severity": severity[finding.severity.name], "title": finding.title}
                )

    return Watch(attach, lambda *_: None, after_step), finish


PEERS = {"torchtest2": torchtest2, "torch-audit": torch_audit, "torchmortem": torchmortem}


def main() -> None:
    peer, out, script = sys.argv[1:4]
    said: list[dict] = []
    watch, finish = PEERS[peer](said)
    watch.install()
    sys.argv = sys.argv[3:]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        watch.look()
        watch.quietly(finish)
        order = ["error", "warning", "note"]
        said.sort(key=lambda one: order.index(one["severity"]))
        Path(out).write_text(json.dumps({"findings": said}))


if __name__ == "__main__":
    main()

"""Watches data, targets and the machine: one `DataWatch` that owns the parts."""

from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.data.apart import ApartWatch
from trivet.doctor.probe.data.axes import AxisWatch
from trivet.doctor.probe.data.boxes import BoxWatch
from trivet.doctor.probe.data.classes import ClassWatch
from trivet.doctor.probe.data.collating import CollateWatch
from trivet.doctor.probe.data.drawing import DrawWatch
from trivet.doctor.probe.data.leaks import LeakWatch
from trivet.doctor.probe.data.loaders import LoaderWatch
from trivet.doctor.probe.data.memory import MemoryWatch
from trivet.doctor.probe.data.mixing import MixWatch
from trivet.doctor.probe.data.pairs import PairWatch
from trivet.doctor.probe.data.repeats import RepeatWatch
from trivet.doctor.probe.data.resizing import ResizeWatch
from trivet.doctor.probe.data.scales import ScaleWatch
from trivet.doctor.probe.data.splits import SplitWatch
from trivet.doctor.probe.data.spreads import SpreadWatch
from trivet.doctor.probe.data.views import ViewWatch
from trivet.doctor.probe.losses import LossWatch
from trivet.doctor.probe.modules import ModuleWatch
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.trace_data import DataTrace


class DataWatch:
    """Hands calls of models and losses to the parts, each of which fills its share of a `DataTrace`."""

    def __init__(self, session: Session, modules: ModuleWatch, losses: LossWatch) -> None:
        self.session = session
        self.modules = modules
        self.losses = losses
        self.loaders = LoaderWatch(session)
        self.boxes = BoxWatch(session, modules)
        self.axes = AxisWatch(session, modules)
        self.repeats = RepeatWatch(session)
        self.apart = ApartWatch(session)
        self.splits = SplitWatch(session)
        self.loaders.on_batch.append(self.boxes.on_batch)
        self.collates = CollateWatch(session, self.loaders.board)
        self.loaders.on_iterate.append(self.collates.know)
        self.leaks = LeakWatch(session, self.loaders)
        self.classes = ClassWatch(session, self.leaks)
        self.draws = DrawWatch(session)
        self.resizes = ResizeWatch(session, self.loaders.board)
        self.mixes = MixWatch(session, modules)
        self.views = ViewWatch(session)
        self.spreads = SpreadWatch(session)
        self.pairs = PairWatch(session)
        self.scales = ScaleWatch(session)
        self.memory = MemoryWatch(session, self.loaders)

    def install(self, patches: Patches) -> None:
        """Wrap what the parts need, and listen to models and losses."""
        for part in (
            self.loaders,
            self.collates,
            self.repeats,
            self.splits,
            self.boxes,
            self.draws,
            self.resizes,
            self.views,
            self.spreads,
        ):
            part.install(patches)
        self.modules.unseen = lambda: self.leaks.last_unseen
        self.modules.before_root += [self._before_root, self.axes.before_root]
        self.modules.observers += [self.axes.observe, self.apart.observe]
        self.modules.after_root.append(self._after_root)
        self.modules.at_rest += [self.leaks.on_call, self.boxes.on_call]
        self.modules.session.busy.append(lambda: self.leaks.training.left)
        self.losses.observers.append(self._on_loss)

    def end_step(self) -> None:
        """After each optimizer step."""
        self.memory.end_step()

    def fill(self, names: dict[int, str]) -> DataTrace:
        """Return what was recorded; `names` are those of modules by identity."""
        return DataTrace(
            leaks=self.leaks.traces(names),
            loaders=self.loaders.traces(),
            classes=self.classes.traces(),
            regressions=self.classes.regressions(),
            boxes=list(self.boxes.boxes.values()),
            detections=self.boxes.detections(names),
            resizes=self.resizes.traces(),
            drawings=self.draws.traces(),
            mixes=self.mixes.traces(names),
            views=self.views.traces(),
            spreads=list(self.spreads.spreads.values()),
            axes=self.axes.traces(),
            repeated_draws=self.repeats.repeated(),
            twins=self.repeats.twins(),
            apart=self.apart.traces(),
            splits=self.splits.splits,
            collates=self.collates.traces(),
            pairs=self.pairs.trace(),
            scales=self.scales.traces(names),
            memory=self.memory.finish(),
            evaluations=self.classes.evaluations,
            train_loss=self.classes.train_loss,
            train_accuracy=self.classes.train_accuracy,
        )

    def _before_root(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.leaks.on_call(module, args, kwargs)
        self.boxes.on_call(module, args, kwargs)
        self.pairs.on_call(args, kwargs)
        self.scales.on_call(module, args, kwargs)

    def _after_root(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        self.mixes.on_call(module, args, kwargs, output)

    def _on_loss(
        self, function: str, output: torch.Tensor, target: torch.Tensor, given: dict[str, Any], value: Any
    ) -> None:
        self.classes.on_loss(function, output, target, given, value)
        self.boxes.on_loss(function, output, target)
        if not self.session.resting:  # else the call of the model was not seen
            self.pairs.on_loss(output, target)
            self.views.on_loss(output)
            self.mixes.on_loss(output, target)
            self.axes.on_loss(target)
        self.resizes.on_loss(function, target)


__all__ = ["DataWatch"]

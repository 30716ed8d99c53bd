"""The verb `export`: a run as one ONNX file that is proved to say what PyTorch says."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trivet.data.batching import collate
from trivet.data.dataset import Dataset
from trivet.data.letterbox import letterbox
from trivet.errors import ExportError, UsageError, unknown_name
from trivet.export import require_packages
from trivet.recipe.backends import OnnxBackend, TorchBackend, exported_file, weights_mark
from trivet.recipe.prepare import read_splits
from trivet.recipe.proof import MOST_LOSS, SCORE_NAMES, Proof, compare_on
from trivet.recipe.recipe import DataRecipe
from trivet.recipe.run_folder import Run, load_run
from trivet.recipe.score import pick_split, relabelled
from trivet.storage import whole_file
from trivet.structures import Sample
from trivet.tasks.box_task import BoxTask

if TYPE_CHECKING:
    from trivet.export.assemble import Stages
    from trivet.export.facts import ExportFacts

FORMATS = ("onnx",)
CALIBRATION_IMAGES = 128
STAGE_IMAGES = 3
"""So many images are followed stage by stage."""
TIMED_IMAGES = 24
INT8_LOSS = 0.01
"""What quantisation may cost of the score unless said otherwise."""


@dataclass(frozen=True)
class Exported:
    """An exported file and what proves it.

    Args:
        path: The file; its proof lies beside it as `.proof.json` and `.proof.txt`.
        proof: What was measured.
    """

    path: Path
    proof: Proof


def export_model(
    run: str | Path | Run,
    out: str | Path | None = None,
    *,
    to: str = "onnx",
    data: str | Path | None = None,
    split: str = "val",
    int8: bool = False,
    most_loss: float | None = None,
    licence: str = "not stated",
    progress: Callable[[str], None] | None = None,
) -> Exported:
    """Write a run's best weights as one file, from raw pixels to predictions, and prove it on a split's images.

    Args:
        run: A run folder, or a run that was loaded.
        out: The file; `model.onnx` in the run folder when not given.
        to: The form; `onnx`.
        data: The data set to prove it on; the run's own when not given.
        split: Which of its splits.
        int8: Quantise the network, with the ranges that training images show.
        most_loss: What the score may lose; 0.0001, or 0.01 after quantisation.
        licence: Under which the weights may be used; written into the file.
        progress: Told what is being done.

    Raises:
        UsageError: If there is no run or data, packages are missing, or the model has no counterpart in ONNX.
        ExportError: If the file does not say what PyTorch says. The file is not kept, its proof is.
    """
    if to not in FORMATS:
        raise unknown_name("form of export", to, FORMATS)
    require_packages()
    loaded = run if isinstance(run, Run) else load_run(run)
    if loaded.crf is not None:
        raise UsageError("a dense CRF is not exported", "load the run without it")
    target = exported_file(loaded.folder) if out is None else Path(out)
    if target.suffix.lower() != ".onnx" or not target.parent.is_dir():
        raise UsageError(
            f"cannot write {target}", "give a file that ends in .onnx, in a folder that is there"
        )
    tell = progress or (lambda _: None)
    splits = read_splits(_data(loaded, data), seed=loaded.recipe.train.seed, task=loaded.recipe.task.kind)
    dataset = relabelled(pick_split(splits, split), loaded.labels)
    proof = _Export(loaded, target, splits.train, dataset, split, int8, licence, tell).write(
        most_loss if most_loss is not None else INT8_LOSS if int8 else MOST_LOSS
    )
    return Exported(target, proof)


@dataclass(frozen=True)
class _Export:
    """One export: what it is made from, and where it goes."""

    run: Run
    target: Path
    train: Dataset
    dataset: Dataset
    split: str
    int8: bool
    licence: str
    tell: Callable[[str], None]

    def write(self, most_loss: float) -> Proof:
        """Write the file and its proof; the file is there only if it passes."""
        from trivet.export.assemble import assemble
        from trivet.export.network import export_network
        from trivet.export.quantise import quantise_network

        run, facts = self.run, self._facts()
        self.tell("translating the network")
        torch_side = TorchBackend(run, torch.device("cpu"))
        network = export_network(run.model, facts.size_hw)
        ms_fp32 = None
        if self.int8:
            self.tell("quantising with the ranges of training images")
            ms_fp32 = self._seconds(assemble(network, run.model, run.task, facts)[0].SerializeToString())
            network = quantise_network(network, self._calibration())
            facts = replace(facts, precision="int8")
        content = assemble(network, run.model, run.task, facts)[0].SerializeToString()
        self.tell(f"proving it on {len(self.dataset)} images")
        differences, before, after, ms_torch, ms_file = compare_on(
            self.dataset, torch_side, self._opened(content), run.task
        )
        proof = Proof(
            task=run.recipe.task.kind,
            split=self.split,
            precision=facts.precision,
            differences=differences,
            score_torch=before,
            score_file=after,
            most_loss=most_loss,
            ms_torch=ms_torch,
            ms_file=ms_file,
            ms_fp32=ms_fp32,
        )
        if not self.int8:
            shown, stages = assemble(network, run.model, run.task, facts, show=True)
            proof = self._with_stages(proof, shown.SerializeToString(), stages)
        self._keep(content, proof)
        return proof

    def _facts(self) -> "ExportFacts":
        from trivet.export.facts import ExportFacts

        run = self.run
        return ExportFacts(
            task=run.recipe.task.kind,
            labels=run.labels,
            size_hw=run.recipe.model.size_hw,
            precision="fp32",
            weights="last" if run.last else weights_mark(run.folder),
            licence=self.licence,
            model=run.model.spec.name or run.model.spec.backbone,
            score_threshold=run.task.score_threshold if isinstance(run.task, BoxTask) else 0.0,
        )

    def _opened(self, content: bytes) -> OnnxBackend:
        """Open what will be written, with the checks that reading it will make."""
        from trivet.export.reading import OnnxFile, check_file, start_session

        source = str(self.target)
        facts = check_file(content, source=source)
        session = start_session(content, source=source, threads=torch.get_num_threads())
        return OnnxBackend(OnnxFile(self.target, facts, session))

    def _seconds(self, content: bytes) -> float:
        """Return the median milliseconds an image takes, before quantisation."""
        backend = self._opened(content)
        times = []
        for index in range(min(TIMED_IMAGES, len(self.dataset))):
            image = self.dataset.image(index)
            begun = time.perf_counter()
            backend.predict([image])
            times.append(time.perf_counter() - begun)
        return 1000 * float(np.median(times))

    def _calibration(self) -> Iterator[np.ndarray]:
        """Yield normalised training images, drawn at random, the same every time."""
        count = len(self.train)
        for index in random.Random(0).sample(range(count), min(CALIBRATION_IMAGES, count)):
            sample = letterbox(
                Sample.of_image(self.train.image(index), image_id=0, name=self.train.name(index)),
                size_hw=self.run.recipe.model.size_hw,
                fill_rgb=self.run.model.fill_rgb,
            )
            yield self.run.model.normalise(collate([sample]).images).numpy()

    def _with_stages(self, proof: Proof, content: bytes, stages: "Stages") -> Proof:
        """Follow some images stage by stage, the first one that differs among them."""
        from trivet.export.reading import start_session
        from trivet.recipe.stages import compare_stages, first_beyond, worst_of

        session = start_session(content, source=str(self.target))
        chosen = set(range(min(STAGE_IMAGES, len(self.dataset))))
        if proof.differences.first_fault is not None:
            chosen.add(proof.differences.first_fault)
        images = [self.dataset.image(index) for index in sorted(chosen)]
        rows = worst_of([compare_stages(self.run, session, stages, image) for image in images])
        first = first_beyond(rows)
        if first is None and not proof.passed:
            first = "after suppression" if proof.task == "detection" else "the decoded prediction"
        return replace(proof, stages=rows, first_stage=first)

    def _keep(self, content: bytes, proof: Proof) -> None:
        """Write the proof, and the file if it passed."""
        for suffix, text in (
            (".proof.json", json.dumps(proof.to_json(), indent=1) + "\n"),
            (".proof.txt", proof.text() + "\n"),
        ):
            with whole_file(self.target.with_suffix(suffix)) as unfinished:
                unfinished.write_text(text)
        if not proof.passed:
            self.target.unlink(missing_ok=True)
            raise _error(proof, self.target)
        with whole_file(self.target) as unfinished:
            unfinished.write_bytes(content)


def _data(run: Run, data: str | Path | None) -> DataRecipe:
    return (
        run.recipe.data
        if data is None
        else run.recipe.data.model_copy(update={"path": str(Path(data).resolve())})
    )


def _error(proof: Proof, target: Path) -> ExportError:
    name = SCORE_NAMES[proof.task]
    if proof.precision == "int8":
        return ExportError(
            f"in 8 bits the {name} falls from {proof.score_torch:.4f} to {proof.score_file:.4f}, by more than "
            f"{proof.most_loss:g}",
            "allow more with --most-loss, or export without --int8",
        )
    differences = proof.differences
    first = (
        differences.faults[0]
        if differences.faults
        else f"{name} {proof.score_torch:.6f} became {proof.score_file:.6f}"
    )
    return ExportError(
        f"the exported file does not say what PyTorch says ({len(differences.faults)} differences on "
        f"{differences.images} images), first at: {proof.first_stage}; {first}",
        f"{target.with_suffix('.proof.txt')} has the whole comparison",
    )

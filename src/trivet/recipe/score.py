"""The verb `score`: a run, or any model's predictions, against the truth of a data set."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trivet.data.dataset import Dataset, RelabelledMasks, Splits
from trivet.errors import UsageError
from trivet.recipe.assess import ASSESSORS
from trivet.recipe.assessment import Scores
from trivet.recipe.prepare import read_splits
from trivet.recipe.recipe import DataRecipe
from trivet.recipe.run_folder import load_run
from trivet.structures import LabelMap, TaskName

SPLITS = ("train", "val", "test")


def score(
    what: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    last: bool = False,
    crf: str | None = None,
    flip: bool = False,
    bootstrap: int = 1000,
    data_options: DataRecipe | None = None,
) -> Scores:
    """Score a run's weights, or predictions made elsewhere.

    Args:
        what: A run folder, a COCO results file, or a folder of predicted masks.
        data: The data set; a run folder's own when not given.
        split: Which split; test where there is one, else val.
        last: Score the weights a run ended with rather than its best ones.
        crf: A key of `geometry.dense_crf.CRF_PRESETS`, to refine a segmenter's masks before they are scored.
        flip: Average the probabilities of masks or classes over each image and its mirror image.
        bootstrap: Resamples for the intervals; 0 leaves them out.
        data_options: How the data set is read, where its folder is not plain.

    Raises:
        UsageError: If there is no such split, it is no run and no predictions, or these and the data do not fit.
    """
    if (Path(what) / "recipe.toml").is_file():
        run = load_run(what, last=last, crf=crf, flip=flip)
        options = _options(data, data_options or run.recipe.data)
        dataset = pick_split(
            read_splits(options, seed=run.recipe.train.seed, task=run.recipe.task.kind), split
        )
        dataset = relabelled(dataset, run.labels)
        return ASSESSORS[run.recipe.task.kind].assess(run, dataset, bootstrap=bootstrap).scores
    if crf is not None:
        raise UsageError(f"a CRF refines the masks of a run, and {what} is none", "leave --crf out")
    if flip:
        raise UsageError(f"only a run can look at images again, and {what} is none", "leave --flip out")
    if last:
        raise UsageError(f"the last weights are a run folder's, and {what} is none", "leave --last out")
    if not Path(what).is_dir() and Path(what).suffix.lower() != ".json":
        raise UsageError(
            f"{what} is neither a run folder nor predictions",
            "give a run, COCO results (.json), a folder of masks, or a competition file (.csv)",
        )
    if data is None and data_options is None:
        raise UsageError(
            f"{what} holds predictions, and no data set was given", "trivet score PREDICTIONS DATA"
        )
    task: TaskName | None = "segmentation" if Path(what).is_dir() else None
    dataset = pick_split(read_splits(_options(data, data_options), seed=0, task=task), split)
    return ASSESSORS[dataset.task].assess_file(Path(what), dataset, bootstrap=bootstrap)


def pick_split(splits: Splits, split: str | None) -> Dataset:
    """Return a split by name; test where there is one, else val, when none is named.

    Raises:
        UsageError: If there is no such split.
    """
    named = {name: getattr(splits, name) for name in SPLITS}
    there = {name: dataset for name, dataset in named.items() if dataset is not None}
    name = split or ("test" if "test" in there else "val")
    if name not in there:
        raise UsageError(f"the data set has no split {name!r}", f"its splits: {', '.join(there)}")
    return there[name]


def relabelled(dataset: Dataset, labels: LabelMap) -> Dataset:
    """Return a data set whose labels are those a model knows, matched by class name.

    Raises:
        UsageError: If the data set has a class the model does not know.
    """
    if dataset.labels.names == labels.names:
        return dataset
    position = {name: label for label, name in enumerate(labels.names)}
    table = np.array([position.get(name, -1) for name in dataset.labels.names])
    column = dataset.class_labels if dataset.class_labels is not None else dataset.truth.labels
    present = np.unique(column) if dataset.masks is None else np.arange(len(table))
    unknown = present[table[present] < 0]
    if len(unknown):
        raise UsageError(
            f"the data set has the class {dataset.labels.names[int(unknown[0])]!r}, which the model does not know",
            f"it knows: {', '.join(labels.names)}",
        )
    return replace(
        dataset,
        labels=labels,
        truth=replace(dataset.truth, labels=table[dataset.truth.labels]),
        masks=None if dataset.masks is None else RelabelledMasks(dataset.masks, table.astype(np.uint8)),
        class_labels=None if dataset.class_labels is None else table[dataset.class_labels],
    )


def _options(data: str | Path | None, options: DataRecipe | None) -> DataRecipe:
    if data is None:
        assert options is not None, "the caller has checked that one is given"
        return options
    path = str(Path(data).resolve())
    if options is not None and (options.path == path or options.path == str(data)):
        return options
    return (options or DataRecipe(path=path)).model_copy(update={"path": path})

"""Checks on samples and targets."""

from collections.abc import Iterator

from trivet.doctor.checks.common import NotCheckedError, listed, need_steps, where
from trivet.doctor.finding import Finding, Severity
from trivet.doctor.trace import InputTrace, Trace
from trivet.doctor.trace_data import BoxTrace, LeakTrace

TORCHVISION_BOXES = "positive height and width"


def input_normalised_twice(trace: Trace) -> Iterator[Finding]:
    """Pictures whose values show that they were scaled twice."""
    if not trace.inputs:
        raise NotCheckedError("no input of a model was seen")
    for given in trace.inputs:
        how = _scaled_twice(given)
        if how:
            yield Finding(
                "input-normalised-twice",
                "warning",
                f"the pictures given to `{given.model}` have mean {given.mean:.3g} and standard deviation "
                f"{given.std:.3g}: {how}",
                where(given.place, given.model),
                {"mean": given.mean, "std": given.std, "low": given.low, "high": given.high},
                "the data set scales what its transform, the loader or the model has scaled already",
                "scale once: leave out one of the two, and look at the mean (near 0) and deviation (near 1) of a batch",
                verdict="suspected",
            )


def _scaled_twice(given: InputTrace) -> str:
    shape = given.shape
    if len(shape) != 4 or shape[1] not in (1, 3, 4) or min(shape[2:]) < 8 or given.std <= 0:
        return ""
    largest = max(abs(given.low), abs(given.high))
    if largest < 0.05 and 0.02 <= 255 * given.std <= 4 and 255 * largest < 16:
        return "255 times smaller than pictures that were scaled once"
    if -3.0 <= given.mean <= -1.3 and 3.0 <= given.std <= 5.5 and shape[1] == 3 and given.low >= -13:
        return (
            "what is left when the mean of the data is subtracted and its deviation divided by a second time"
        )
    if -3.001 <= given.low <= -2.9 and 0.5 <= given.high <= 1.001:
        return "what 2 x - 1 makes of values that lie within -1 and 1 already"
    return ""


def train_val_leak(trace: Trace) -> Iterator[Finding]:
    """Evaluation on samples that the model was trained on."""
    if not trace.data.leaks:
        raise NotCheckedError("no evaluation after training was seen")
    unsure = ""
    for leak in trace.data.leaks:
        if leak.subset_shared:
            yield _leak(
                leak, leak.subset_shared, leak.subset_size, "indices of the validation subset", "error"
            )
            continue
        share = leak.shared / leak.evaluated if leak.evaluated else 0.0
        if leak.shared >= 5 and share >= 0.02:
            if leak.repeated < 0.9:
                unsure = "the training set was not seen as a whole, or is never the same twice"
                continue
            severity: Severity = "error" if share >= 0.1 and leak.shared >= 20 else "warning"
            yield _leak(leak, leak.shared, leak.evaluated, "samples of validation", severity)
        elif leak.windows >= 20 and leak.windows_shared >= 0.5 * leak.windows:
            severity = (
                "error" if leak.windows_shared >= 0.8 * leak.windows and leak.windows >= 50 else "warning"
            )
            yield _leak(
                leak, leak.windows_shared, leak.windows, "validation sequences end in values that", severity
            )
    if unsure:
        raise NotCheckedError(unsure)


def _leak(leak: LeakTrace, shared: int, size: int, what: str, severity: Severity) -> Finding:
    windows = what.startswith("validation sequences")
    return Finding(
        "train-val-leak",
        severity,
        f"{shared} of {size} {what} {'lie in training sequences' if windows else 'are in the training set'} "
        f"({shared / max(1, size):.0%})",
        where(leak.place, leak.model or None),
        {"shared": shared, "evaluated": size, "trained": leak.trained},
        "windows of one series overlap, and were split at random"
        if windows
        else "the data was enlarged, copied or drawn before it was split",
        "split first (by series, patient or scene), and cut windows or make copies within each part",
        verdict="proven",
    )


def augmentation_repeats(trace: Trace) -> Iterator[Finding]:
    """Workers of a loader that draw the same random numbers as each other, or in every epoch."""
    loaders = [loader for loader in trace.data.loaders if loader.workers]
    if not loaders:
        raise NotCheckedError("no loader with workers feeds the training")
    for loader in loaders:
        if not loader.repeated:
            continue
        names = sorted(loader.repeated)
        workers = "workers" in loader.repeated.values()
        yield Finding(
            "augmentation-repeats",
            "warning",
            f"{listed(names)} begins in the same state in {'several workers' if workers else 'every epoch'} "
            f"of the loader of `{loader.dataset}`, and is drawn from",
            where(loader.place, names[0]),
            {"sources": loader.repeated, "workers": loader.workers},
            "each worker is a copy of the process as it was when the epoch began, random generators included"
            if any(name.startswith("dataset.") for name in names)
            else "each worker is given the same seed",
            "draw from torch's own generator, which every worker seeds differently, or seed yours in `worker_init_fn` "
            "from `torch.initial_seed()`",
            verdict="proven",
        )


def mask_interpolated(trace: Trace) -> Iterator[Finding]:
    """Maps of class ids that were resized by averaging ids."""
    for resize in trace.data.resizes:
        yield Finding(
            "mask-interpolated",
            "error",
            f"{resize.function} averages class ids ({', '.join(f'{v:g}' for v in resize.given[:6])}) of maps that "
            "become targets",
            where(resize.place, resize.function),
            {"maps": resize.maps, "targets": resize.used, "invented_share": resize.invented},
            "between class 0 and class 3 averaging makes pixels of class 1 and 2, which are not there",
            'resize masks with mode="nearest" (`InterpolationMode.NEAREST`, `cv2.INTER_NEAREST`)',
            verdict="proven",
        )


def overlapping_labels(trace: Trace) -> Iterator[Finding]:
    """Shapes of different classes drawn over each other in any order."""
    classes = max((len(item.counts) for item in trace.data.classes if item.spatial), default=0)
    for drawing in trace.data.drawings:
        both = _either_way(drawing.pairs)
        labels = {int(side) for pair in drawing.pairs for side in pair.split(">")}
        if not both or classes < 3 or not labels <= {*range(classes), 255}:
            continue
        count = sum(drawing.pairs[pair] for pair in both)
        yield Finding(
            "overlapping-labels",
            "warning",
            f"{drawing.covering} of {drawing.shapes} shapes cover another class, in either order: "
            f"which class a pixel gets depends on the order of the file ({drawing.overlapped / max(1, drawing.pixels):.0%} "
            "of labelled pixels)",
            where(drawing.place, "mask"),
            {
                "pairs": drawing.pairs,
                "either_way": count,
                "overlapped": drawing.overlapped,
                "pixels": drawing.pixels,
            },
            "what is drawn last wins, and the annotations stand in no fixed order",
            "draw in a fixed order (large before small, or by priority of the class), or keep one mask a class",
            verdict="proven",
        )


def _either_way(pairs: dict[str, int]) -> list[str]:
    """Pairs of classes that cover each other in both orders, each at least twice and in a tenth of the cases."""
    found = []
    for pair, count in pairs.items():
        under, over = pair.split(">")
        back = pairs.get(f"{over}>{under}", 0)
        if under != over and min(count, back) >= max(2, 0.1 * (count + back)):
            found.append(pair)
    return found


def box_format(trace: Trace) -> Iterator[Finding]:
    """Boxes that are no two corners, where two corners are wanted."""
    if not trace.data.boxes:
        raise NotCheckedError("no boxes were seen")
    for boxes in trace.data.boxes:
        meant = _meant_format(boxes)
        if meant:
            yield Finding(
                "box-format",
                "error",
                f"{boxes.inverted} of {boxes.boxes} boxes end before they begin, such as {boxes.example}; "
                f"{boxes.boxes - _misfits(boxes, meant)} of them lie in the picture as {meant}",
                where(boxes.place, boxes.source),
                {"boxes": boxes.boxes, "inverted": boxes.inverted, "as_size": boxes.as_size}
                | {"as_centre": boxes.as_centre},
                f"the annotations are {meant}, and are used as (x1, y1, x2, y2)",
                "convert them: `torchvision.ops.box_convert(boxes, "
                f"{'xywh' if meant == '(x, y, width, height)' else 'cxcywh'!r}, 'xyxy')`",
                verdict="proven",
            )


def _misfits(boxes: BoxTrace, meant: str) -> int:
    return boxes.boxes - (boxes.as_size if meant.startswith("(x,") else boxes.as_centre)


def _meant_format(boxes: BoxTrace) -> str:
    if boxes.boxes < 4 or boxes.inverted < max(2, 0.05 * boxes.boxes):
        return ""
    if boxes.as_size >= 0.99 * boxes.boxes:
        return "(x, y, width, height)"
    if boxes.as_centre >= 0.99 * boxes.boxes:
        return "(centre x, centre y, width, height)"
    return ""


def degenerate_boxes(trace: Trace) -> Iterator[Finding]:
    """Boxes without width or height."""
    refused = trace.exception is not None and TORCHVISION_BOXES in trace.exception.message
    if not trace.data.boxes and not refused:
        raise NotCheckedError("no boxes were seen")
    found = [b for b in trace.data.boxes if b.flat + b.inverted and not _meant_format(b)]
    for boxes in found[:1]:
        bad = boxes.flat + boxes.inverted
        harmful = refused or trace.backward.not_finite > 0 or boxes.inverted > 0
        yield Finding(
            "degenerate-boxes",
            "error" if harmful else "warning",
            f"{bad} of {boxes.boxes} boxes have no width or no height",
            where(boxes.place, boxes.source),
            {"boxes": boxes.boxes, "flat": boxes.flat, "inverted": boxes.inverted, "example": boxes.example},
            "boxes at the border of a crop, clicks, or rounding leave nothing of them; the logarithm of their size is "
            "minus infinity",
            "drop boxes narrower than a pixel or two after each crop and resize, labels with them",
            verdict="proven",
        )
    if refused and not found and trace.exception is not None:
        place = trace.exception.places[0] if trace.exception.places else None
        yield Finding(
            "degenerate-boxes",
            "error",
            "the detector refuses boxes without width or height",
            where(place, "boxes"),
            {"message": trace.exception.message[:300]},
            "a crop or rounding leaves nothing of some boxes",
            "drop boxes narrower than a pixel or two after each crop and resize, labels with them",
            verdict="proven",
        )


def label_off_by_one(trace: Trace) -> Iterator[Finding]:
    """Objects labelled 0 where a detector takes 0 for the background."""
    for seen in trace.data.detections:
        if seen.zeros >= 2:
            yield Finding(
                "label-off-by-one",
                "error",
                f"{seen.zeros} of {seen.labels} objects are labelled 0, which `{seen.model}` takes for the background",
                where(seen.place, seen.model),
                {"zeros": seen.zeros, "labels": seen.labels},
                "torchvision's detector keeps class 0 for the background",
                "add 1 to the labels, and 1 to `num_classes`",
                verdict="proven",
            )


def samples_mixed(trace: Trace) -> Iterator[Finding]:
    """Pixels or samples that are mixed up by a reshape, or by an operation over the batch."""
    for view in trace.data.views:
        flat = len(view.made) == 2
        sure = flat or len(view.given) == 4 or view.rough > 1.3 * view.smooth
        yield Finding(
            "samples-mixed",
            "error" if sure else "warning",
            f"`{view.operation}` makes {tuple(view.made)} of {tuple(view.given)} without moving the axis: "
            + ("classes and positions are mixed" if flat else "channels and positions are mixed"),
            where(view.place, view.operation),
            {"given": view.given, "made": view.made, "rough": view.rough, "smooth": view.smooth},
            "a reshape keeps the order of the values in memory; it cannot exchange axes",
            "exchange the axes: `x.movedim(1, -1)` before flattening"
            if flat
            else "exchange the axes: `x.permute(...)` or `x.movedim(-1, 1)`",
            verdict="proven",
        )
    tried = [mix for mix in trace.data.mixes if mix.ran]
    for mix in tried:
        if mix.leak <= 1e-4:
            continue
        softmax = any(word in mix.operation for word in ("softmax", "softmin", "view", "reshape"))
        severity: Severity = "note" if not softmax else "error" if mix.per_sample else "warning"
        yield Finding(
            "samples-mixed",
            severity,
            f"the output of `{mix.model}` for one sample depends on the other samples of its batch "
            f"({mix.leak:.0%} of its gradient), from `{mix.operation}` on",
            where(mix.operation_place, mix.operation),
            {"share": mix.leak, "operation": mix.operation, "batch": mix.batch},
            "an operation runs over the batch axis",
            "give the axis of positions or classes instead of the batch (`dim=1` or `dim=-1`)",
            verdict="proven",
        )
    if not trace.data.views and not tried:
        reasons = [mix.reason for mix in trace.data.mixes if mix.reason]
        raise NotCheckedError(reasons[0] if reasons else "no model was trained on a batch")


def targets_misaligned(trace: Trace) -> Iterator[Finding]:
    """Pictures whose target maps are turned otherwise, or belong to other pictures."""
    pairs = trace.data.pairs
    if pairs.pairs < 48:
        raise NotCheckedError("fewer than 48 pairs of pictures and maps were seen")
    evidence: dict[str, object] = {"pairs": pairs.pairs, "own": pairs.own, "rank": pairs.rank}
    if pairs.decisive >= 16 and pairs.turned >= 0.35 and pairs.best_turn >= pairs.own + 0.15:
        yield Finding(
            "targets-misaligned",
            "error" if pairs.turned >= 0.5 and pairs.best_turn >= 0.4 else "warning",
            f"{pairs.turned:.0%} of the maps fit their picture clearly better when flipped or turned",
            where(pairs.place, "target"),
            evidence | {"best_turn": pairs.best_turn, "turned": pairs.turned, "decisive": pairs.decisive},
            "picture and map are augmented with different random draws, or only one of them is",
            "transform both in one call (torchvision v2 with `tv_tensors.Mask`, or on the concatenated channels)",
            verdict="proven",
        )
    elif 0.35 <= pairs.rank <= 0.65 and pairs.best_other >= 0.5 and pairs.own <= 0.6 * pairs.best_other:
        yield Finding(
            "targets-misaligned",
            "warning",
            f"the maps fit other pictures as well as their own (mean rank {pairs.rank:.2f}; 0.5 is chance)",
            where(pairs.place, "target"),
            evidence | {"best_other": pairs.best_other},
            "pictures and maps are paired by their place in two lists that are ordered differently",
            "sort both lists, and check that the stems of the file names are equal",
            verdict="suspected",
        )


def class_imbalance(trace: Trace) -> Iterator[Finding]:
    """Classes so rare that the network does not learn them, and nothing weighs them."""
    need_steps(trace, 30)
    for seen in trace.data.classes:
        total = sum(seen.counts)
        if not total or seen.weighted or seen.late_calls < 5:
            continue
        share = max(seen.counts) / total
        major = seen.counts.index(max(seen.counts))
        rare = sum(n for i, n in enumerate(seen.late_counts) if i != major)
        right = sum(n for i, n in enumerate(seen.late_right) if i != major)
        if share < 0.95 or rare < 10 or _collapsed(seen.late_answers, major):
            continue
        recall = right / rare
        if recall < 0.7:
            yield Finding(
                "class-imbalance",
                "warning",
                f"class {major} makes up {share:.1%} of the targets, and of the others only {recall:.0%} are found",
                where(seen.place, seen.function),
                {"counts": seen.counts[:50], "recall_of_others": recall, "others": rare},
                "a loss that counts every target alike gains little from the rare ones",
                "weigh the classes (`weight`, `pos_weight`), draw rare samples more often (`WeightedRandomSampler`), or "
                "use a focal or Dice loss",
                verdict="suspected",
            )


def _collapsed(answers: list[int], major: int) -> bool:
    return bool(answers) and answers[major] >= 0.9995 * sum(answers)


def majority_class_collapse(trace: Trace) -> Iterator[Finding]:
    """A network that answers the most frequent class whatever it is given."""
    need_steps(trace, 40)
    for seen in trace.data.classes:
        total = sum(seen.counts)
        if not total or seen.late_calls < 5:
            continue
        major = seen.counts.index(max(seen.counts))
        share = seen.counts[major] / total
        rare = sum(n for i, n in enumerate(seen.late_counts) if i != major)
        if share >= 0.8 and rare >= 10 and _collapsed(seen.late_answers, major):
            yield Finding(
                "majority-class-collapse",
                "warning",
                f"the network answers class {major} for {seen.late_answers[major] / sum(seen.late_answers):.2%} of what "
                f"it is given; {1 - share:.2%} of the targets are of other classes",
                where(seen.place, seen.function),
                {"targets": seen.late_counts[:50], "answers": seen.late_answers[:50], "majority": share},
                "always answering the majority gives a low loss and a high accuracy",
                "weigh the classes, sample the rare ones more often, or use a focal or Dice loss; judge by IoU or "
                "recall a class instead of accuracy",
                verdict="proven",
            )

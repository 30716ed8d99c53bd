"""Checks on samples and targets."""

from collections.abc import Iterator

from trivet.doctor.checks.common import NotCheckedError, fed_at, listed, part_made_at, samples_made_at, where
from trivet.doctor.finding import Finding, Severity
from trivet.doctor.probe.data.mixing import PLAIN_MIXERS
from trivet.doctor.trace import InputTrace, Trace
from trivet.doctor.trace_data import LeakTrace, SplitTrace

SURE_FIT = 0.4
"""Share of a map that its turned picture explains, by which even half of the pairs prove that they are turned."""
OWN_RANK = 0.05
"""Most of the other maps, turned alike, that may fit a picture better where the turn is the fault."""


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
                where(
                    given.scaled_at
                    or part_made_at(trace, "input")
                    or fed_at(trace, given.model)
                    or given.place,
                    given.model,
                ),
                {"mean": given.mean, "std": given.std, "low": given.low, "high": given.high},
                "the data set scales what its transform, the loader or the model has scaled already",
                "scale once: leave out one of the two, and look at the mean (near 0) and deviation (near 1) of a batch",
                verdict="suspected",
            )


def _scaled_twice(given: InputTrace) -> str:
    shape = given.shape
    if len(shape) != 4 or shape[1] not in (1, 3, 4) or min(shape[2:]) < 8 or given.std <= 0:
        return ""
    if 0.02 <= 255 * given.inner_std <= 4 and 255 * given.inner_range < 16:
        return "255 times smaller than pictures that were scaled once"
    if _normalised_again(given):
        return "what is left when the mean and deviation that made 0 to 1 normal are taken off a second time"
    if -3.0 <= given.mean <= -1.3 and 3.0 <= given.std <= 5.5 and shape[1] == 3 and given.low >= -13:
        return (
            "what is left when the mean of the data is subtracted and its deviation divided by a second time"
        )
    if -3.001 <= given.low <= -2.9 and 0.5 <= given.high <= 1.001:
        return "what 2 x - 1 makes of values that lie within -1 and 1 already"
    return ""


def _normalised_again(given: InputTrace) -> bool:
    """Whether the constants that carry 0 and 1 to the extremes in two steps leave a mean near 0 and a deviation near 1.

    (((v - m) / s) - m) / s carries 0 to -m (1 + s) / s^2 and spans 1 / s^2.
    """
    span = given.high - given.low
    if span <= 0 or given.low >= 0:
        return False
    s = span**-0.5
    m = -given.low * s * s / (1 + s)
    once_mean, once_std = given.mean * s + m, given.std * s
    return 0.12 <= s <= 0.42 and m < 0.7 and abs(once_mean) <= 0.25 and 0.7 <= once_std <= 1.35


SPLIT_FIRST = "split first (by series, patient or scene), and cut windows or make copies within each part"
COPIED = "the data was enlarged, copied or drawn before it was split", SPLIT_FIRST
OVERLAPPING = "windows of one series overlap, and were split at random", SPLIT_FIRST
FEWEST_LEFT_OUT = 20
"""Samples that a split must have left out, and the evaluated ones, before a subset of training counts as a mistake."""
WITHIN = (
    "the evaluated subset was cut from the indices of the training subset",
    "cut it from the indices that training leaves out, or evaluate those too if the training score is meant",
)
WHOLE = (
    "the whole training set is evaluated together with new samples",
    "score the new samples apart, if that is not done already",
)


FEWEST_SHARED, SHARED = 5, 0.1
"""Samples, and their share of a part that was split off, that are in the other part too."""
PICTURE = 64
"""Values of a sample from which on two are not equal by chance; rows of a table may be."""


def _is_no_chance(split: SplitTrace) -> bool:
    """Whether equal samples can only be copies: pictures, or many equal indices or names."""
    return split.values >= PICTURE or (split.values == 1 and split.shared >= 0.3 * split.size)


def train_val_leak(trace: Trace) -> Iterator[Finding]:
    """Evaluation on samples that the model was trained on."""
    for split in trace.data.splits:
        if split.shared >= FEWEST_SHARED and split.shared >= SHARED * split.size:
            yield Finding(
                "train-val-leak",
                "error" if _is_no_chance(split) else "warning",
                f"{split.shared} of {split.size} samples that were split off are in the other part too "
                f"({split.shared / split.size:.0%})",
                where(split.place, "train_test_split"),
                {"shared": split.shared, "size": split.size},
                "what was split holds samples several times, as after oversampling: copies go to both sides",
                "split first, and draw samples again (or augment) in the training part only",
                verdict="proven",
            )
    if not trace.data.leaks:
        raise NotCheckedError("no evaluation after training was seen")
    unsure = ""
    for leak in trace.data.leaks:
        if leak.left_out:
            if min(leak.left_out, leak.subset_shared) >= FEWEST_LEFT_OUT:
                found = (
                    f"all {leak.subset_size} samples of evaluation are in the training subset, and the "
                    f"{leak.left_out} that it leaves out are never evaluated"
                )
                yield _leak(leak, leak.subset_shared, leak.subset_size, found, "warning", WITHIN)
            continue
        if leak.subset_shared and leak.subset_shared == leak.subset_size:
            continue  # nothing is left out: the score is that of training
        if leak.subset_shared:
            found = f"{leak.subset_shared} of {leak.subset_size} indices of the validation subset are in the training set"
            yield _leak(leak, leak.subset_shared, leak.subset_size, found, "error", COPIED)
            continue
        share = leak.shared / leak.evaluated if leak.evaluated else 0.0
        if leak.shared >= 5 and share >= 0.02:
            by_chance = leak.first_share < 0.1 or leak.first_share < 3 * leak.repeated_then + 0.05
            if leak.repeated < 0.9 and by_chance:
                unsure = "the training set was not seen as a whole, or is never the same twice"
                continue
            whole = leak.covered >= 0.95  # a pass over all there is, parts of which may be looked at apart
            severity: Severity = "error" if share >= 0.1 and leak.shared >= 20 and not whole else "warning"
            found = f"{leak.shared} of {leak.evaluated} samples of validation are in the training set"
            yield _leak(leak, leak.shared, leak.evaluated, found, severity, WHOLE if whole else COPIED)
        elif leak.windows >= 20 and leak.windows_shared >= 0.5 * leak.windows:
            severity = (
                "error" if leak.windows_shared >= 0.8 * leak.windows and leak.windows >= 50 else "warning"
            )
            found = (
                f"{leak.windows_shared} of {leak.windows} validation sequences end in values that lie in training "
                "sequences"
            )
            yield _leak(leak, leak.windows_shared, leak.windows, found, severity, OVERLAPPING)
    if unsure:
        raise NotCheckedError(unsure)


def _leak(
    leak: LeakTrace, shared: int, size: int, found: str, severity: Severity, told: tuple[str, str]
) -> Finding:
    """A leak: what was `found`, and what is `told` of its cause and remedy."""
    return Finding(
        "train-val-leak",
        severity,
        f"{found} ({shared / max(1, size):.0%})",
        where(leak.place, leak.model or None),
        {"shared": shared, "evaluated": size, "trained": leak.trained},
        *told,
        verdict="proven",
    )


def augmentation_repeats(trace: Trace) -> Iterator[Finding]:
    """Workers of a loader that draw the same random numbers as each other, or in every epoch; samples with fixed seeds."""
    for place in trace.data.reseeded:
        yield Finding(
            "augmentation-repeats",
            "warning",
            "each sample is given the same seed in every epoch, and so varied in the same way",
            where(place, "dataset"),
            {"seeded_at": str(place)},
            "a generator is seeded with a number that belongs to the sample, before its variation is drawn",
            "seed once, before training; where a sample's variation must be repeatable, mix the epoch into the seed",
            verdict="proven",
        )
    for drawn in trace.data.repeated_draws:
        yield Finding(
            "augmentation-repeats",
            "warning",
            f"{drawn.draws} random draws for samples of training gave {drawn.different} different results",
            where(drawn.place, "dataset"),
            {"draws": drawn.draws, "different": drawn.different},
            "a generator is made and seeded with the same number for each sample",
            "make the generator once and draw on from it, or seed it from the sample's index and the epoch",
            verdict="proven",
        )
    loaders = [loader for loader in trace.data.loaders if loader.workers]
    if not loaders and not trace.data.reseeded and not trace.data.repeated_draws:
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
            where(loader.sources.get(names[0]) or loader.seeded_at or loader.place, names[0]),
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
    """Shapes of different classes drawn over each other in any order, or counted for several classes at once."""
    for loss in trace.losses:
        if loss.trained and loss.function == "cross_entropy" and loss.overfull >= 2:
            yield Finding(
                "overlapping-labels",
                "error"
                if len(loss.target_shape) > 2
                else "warning",  # of samples some want several on purpose
                f"{loss.function} was given targets of which several classes hold at once, in {loss.overfull} of "
                f"{loss.examined} calls: their shares add up to {loss.largest_sum:.3g}",
                where(part_made_at(trace, "target", "mask", "masks", "labels") or loss.place, loss.function),
                {"calls": loss.overfull, "largest_sum": loss.largest_sum, "shape": loss.target_shape},
                "softmax gives all classes together 1: where several are wanted it can please none",
                "keep one class a pixel or sample (draw in a fixed order, and clear the others under each shape), or use "
                "`binary_cross_entropy_with_logits` with an output a class",
                verdict="proven",
            )
    classes = max((len(item.counts) for item in trace.data.classes if item.spatial), default=0)
    for drawing in trace.data.drawings:
        both = _either_way(drawing.pairs)
        labels = {int(side) for pair in drawing.pairs for side in pair.split(">")}
        if not both or classes < 3 or not labels <= {*range(classes), 255}:
            continue
        if drawing.shrinking >= 5 and drawing.growing <= 0.05 * drawing.shrinking:
            continue  # large before small, whatever their classes
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


def samples_mixed(trace: Trace) -> Iterator[Finding]:
    """Pixels or samples that are mixed up by a reshape, or by an operation over the batch."""
    for view in trace.data.views:
        flat = len(view.made) == 2
        swapped = not flat and view.made[0] != view.given[0]
        sure = flat or swapped or len(view.given) == 4 or view.rough > 1.3 * view.smooth
        mixed = "classes and positions" if flat else "samples" if swapped else "channels and positions"
        yield Finding(
            "samples-mixed",
            "error" if sure else "warning",
            f"`{view.operation}` makes {tuple(view.made)} of {tuple(view.given)} without moving the axis: "
            f"{mixed} are mixed",
            where(view.place, view.operation),
            {"given": view.given, "made": view.made, "rough": view.rough, "smooth": view.smooth},
            "a reshape keeps the order of the values in memory; it cannot exchange axes",
            "exchange the axes: `x.movedim(1, -1)` before flattening"
            if flat
            else "exchange the axes: `x.transpose(0, 1)`"
            if swapped and view.made[0] == view.given[1]
            else "exchange the axes: `x.permute(2, 0, 1)`"
            if swapped
            else "exchange the axes: `x.permute(...)` or `x.movedim(-1, 1)`",
            verdict="proven",
        )
    for axis in trace.data.axes[:1]:
        yield Finding(
            "samples-mixed",
            "error",
            f"a {axis.kind} with batch_first={axis.batch_first} is given {tuple(axis.shape)}, in batches of {axis.batch}: "
            "it runs over the samples, not over the positions",
            where(axis.place, axis.kind),
            {"shape": axis.shape, "batch": axis.batch, "calls": axis.calls},
            "the axes of samples and of positions are exchanged: a sample sees the others at its own position only",
            f"make the layer with `batch_first={not axis.batch_first}`, or give it `x.transpose(0, 1)`",
            verdict="proven",
        )
    tried = [mix for mix in trace.data.mixes if mix.ran]
    for mix in tried:
        if mix.leak <= 1e-4 or trace.data.axes:
            continue
        softmax = any(word in mix.operation for word in PLAIN_MIXERS)
        foreign = mix.leak > 0.95 and mix.per_sample  # a sample's own input hardly counts
        over_batch = mix.over_sequence and mix.one_value
        severity: Severity = "error" if mix.per_sample else "warning"
        if not softmax and not over_batch:
            severity = "warning" if foreign else "note"
        if any(leak.model == mix.model and 0 < leak.trained <= mix.batch for leak in trace.data.leaks):
            severity = "note"  # the batch is all there is, as the nodes of a graph
        yield Finding(
            "samples-mixed",
            severity,
            f"the output of `{mix.model}` for one sample depends on the other samples of its batch "
            f"({mix.leak:.0%} of its gradient), from `{mix.operation}` on",
            where(mix.operation_place, mix.operation),
            {"share": mix.leak, "operation": mix.operation, "batch": mix.batch},
            "the layer takes the first axis for that of time, and is given the samples there"
            if over_batch
            else "an operation runs over the batch axis",
            "make the layer with `batch_first=True`, or give it `x.transpose(0, 1)`"
            if over_batch
            else "give the axis of positions or classes instead of the batch (`dim=1` or `dim=-1`)",
            verdict="proven",
        )
    if not trace.data.views and not tried:
        reasons = [mix.reason for mix in trace.data.mixes if mix.reason]
        raise NotCheckedError(reasons[0] if reasons else "no model was trained on a batch")


def targets_misaligned(trace: Trace) -> Iterator[Finding]:
    """Batches whose samples are parted; pictures whose target maps are turned otherwise, or belong to other pictures."""
    for seen in trace.data.collates:
        yield Finding(
            "targets-misaligned",
            "error",
            "the function that makes batches puts a part of the samples into another order, and leaves the others",
            where(seen.place, seen.place.function or "collate"),
            {"batches": seen.batches},
            "sorted or shuffled by itself, a part stands beside the labels of other samples",
            "put whole samples into order: `batch = sorted(batch, key=...)` before they are taken apart",
            verdict="proven",
        )
    for twin in trace.data.twins:
        yield Finding(
            "targets-misaligned",
            "warning",
            "two transforms are seeded alike for each sample, so that they agree, but draw "
            + ("from another source of random numbers: " if twin.unseeded else "in another order: ")
            + f"{', '.join(twin.first)} and {', '.join(twin.second)}",
            where(twin.place if twin.unseeded else samples_made_at(trace) or twin.place, "target"),
            {"pairs": twin.pairs, "apart": twin.apart, "first": twin.first, "second": twin.second},
            "the seed is given to one source (`random.seed`), and the transforms draw from another (torch's)"
            if twin.unseeded
            else "one of them draws something for itself first (as colour jitter does), and what moves pixels then draws "
            "other numbers",
            "seed the source that they draw from: `torch.manual_seed(seed)`; or transform both in one call "
            "(torchvision v2 with `tv_tensors.Mask`)"
            if twin.unseeded
            else "draw what both need first, and what the picture alone needs last; or transform both in one call "
            "(torchvision v2 with `tv_tensors.Mask`)",
            verdict="proven",
        )
    for part in () if trace.data.twins else trace.data.apart:  # whose seeds say more
        if part.apart >= 4 and 2 * part.apart > part.pairs:
            yield Finding(
                "targets-misaligned",
                "error",
                f"`{part.transform}` is given the picture and then its map, and draws other numbers for each "
                f"(in {part.apart} of {part.pairs} samples looked at)",
                where(part.place, "target"),
                {"pairs": part.pairs, "apart": part.apart, "transform": part.transform},
                "a random transform draws anew at every call: the map is moved otherwise than its picture",
                "give it both in one call (torchvision v2: `transform(image, mask)` with `tv_tensors.Mask`)",
                verdict="proven",
            )
            break
    pairs = trace.data.pairs
    if pairs.pairs < 48:
        raise NotCheckedError("fewer than 48 pairs of pictures and maps were seen")
    evidence: dict[str, object] = {"pairs": pairs.pairs, "own": pairs.own, "rank": pairs.rank}
    all_turned = pairs.best_turn >= pairs.own + 0.15 and pairs.best_turn >= pairs.best_other - 0.1
    # Of two independent draws half agree: then the medians over all pairs say nothing, those of the turned ones do.
    some_turned = pairs.turned_fit >= max(SURE_FIT, pairs.best_other - 0.1)
    own_turned = pairs.turned_rank <= OWN_RANK
    if pairs.decisive >= 16 and pairs.turned >= 0.35 and own_turned and (all_turned or some_turned):
        yield Finding(
            "targets-misaligned",
            "error" if pairs.turned >= 0.5 and pairs.best_turn >= 0.4 else "warning",
            f"{pairs.turned:.0%} of the maps fit their picture clearly better when flipped or turned",
            where(samples_made_at(trace) or pairs.place, "target"),
            evidence
            | {"best_turn": pairs.best_turn, "turned": pairs.turned, "decisive": pairs.decisive}
            | {"turned_fit": pairs.turned_fit, "turned_rank": pairs.turned_rank},
            "picture and map are augmented with different random draws, or only one of them is",
            "transform both in one call (torchvision v2 with `tv_tensors.Mask`, or on the concatenated channels)",
            verdict="proven",
        )
    elif 0.35 <= pairs.rank <= 0.65 and pairs.best_other >= 0.5 and pairs.own <= 0.6 * pairs.best_other:
        yield Finding(
            "targets-misaligned",
            "warning",
            f"the maps fit other pictures as well as their own (mean rank {pairs.rank:.2f}; 0.5 is chance)",
            where(samples_made_at(trace) or pairs.place, "target"),
            evidence | {"best_other": pairs.best_other},
            "pictures and maps are paired by their place in two lists that are ordered differently",
            "sort both lists, and check that the stems of the file names are equal",
            verdict="suspected",
        )

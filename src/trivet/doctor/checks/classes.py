"""Checks on the balance of classes in targets and answers."""

from collections.abc import Iterator

from trivet.doctor.checks.common import need_steps, where
from trivet.doctor.finding import Finding
from trivet.doctor.trace import Trace
from trivet.doctor.trace_data import ClassTrace

LEARNT = 0.8
"""Recall of the other classes from which on training has had its time."""
FEWEST_RARE = 5
"""Rare targets, late in training, of which a recall means something: none of five found is no chance."""


def class_imbalance(trace: Trace) -> Iterator[Finding]:
    """Classes so rare that the network does not learn them, and nothing weighs them."""
    need_steps(trace, 30)
    for seen in trace.data.classes:
        total = sum(seen.counts)
        if not total or seen.weighted or seen.late_calls < 5:
            continue
        major = seen.counts.index(max(seen.counts))
        rare = _rare_classes(seen)
        late, right = (sum(counts[i] for i in rare) for counts in (seen.late_counts, seen.late_right))
        if late < FEWEST_RARE or _collapsed(seen.late_answers, major):
            continue
        recall, others = right / late, _recall_of_others(seen, rare)
        if recall < 0.7 and others - recall > 0.25:
            share = sum(seen.counts[i] for i in rare) / total
            yield Finding(
                "class-imbalance",
                "warning" if others >= LEARNT else "note",  # else the rare ones may only come later
                f"{share:.1%} of the targets are of the rare class{'es' if len(rare) > 1 else ''} "
                f"{', '.join(map(str, rare[:6]))}, of which only {recall:.0%} are found ({others:.0%} of the others)",
                where(seen.place, seen.function),
                {"counts": seen.counts[:50], "rare": rare[:50], "recall": recall, "recall_of_others": others},
                "a loss that counts every target alike gains little from the rare ones",
                "weigh the classes (`weight`, `pos_weight`), draw rare samples more often (`WeightedRandomSampler`), or "
                "use a focal or Dice loss",
                verdict="suspected",
            )


def _rare_classes(seen: ClassTrace) -> list[int]:
    """Classes with less than a tenth of their even share, or all but the one that makes up nineteen in twenty."""
    total, used = sum(seen.counts), [i for i, n in enumerate(seen.counts) if n]
    if max(seen.counts) >= 0.95 * total:
        return [i for i in used if seen.counts[i] < max(seen.counts)]
    return [i for i in used if seen.counts[i] < 0.1 * total / len(used)]


def _recall_of_others(seen: ClassTrace, rare: list[int]) -> float:
    others = [i for i in range(len(seen.late_counts)) if i not in rare]
    return sum(seen.late_right[i] for i in others) / max(1, sum(seen.late_counts[i] for i in others))


def _collapsed(answers: list[int], major: int) -> bool:
    return bool(answers) and answers[major] >= 0.9995 * sum(answers)


def majority_class_collapse(trace: Trace) -> Iterator[Finding]:
    """A network that answers the most frequent class whatever it is given."""
    need_steps(trace, 60)
    for seen in trace.data.classes:
        total = sum(seen.counts)
        if not total or seen.late_calls < 5:
            continue
        major = seen.counts.index(max(seen.counts))
        share = seen.counts[major] / total
        rare = sum(n for i, n in enumerate(seen.late_counts) if i != major)
        if share >= 0.8 and rare >= 5 and _collapsed(seen.late_answers, major):
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

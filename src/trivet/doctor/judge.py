"""Judges an experiment: does the fix help, beyond what chance and another learning rate would do?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

Result = Literal["confirmed", "no-effect-seen", "not-supported"]
RESAMPLES = 2000
STALLED = 0.25
"""A rate is at fault only where training by it gains less than this share of what the better rate gains."""

Scores = Mapping[float, torch.Tensor]
"""Factor of the learning rate -> held-out scores, higher is better, `[seeds, samples]`."""


@dataclass(frozen=True)
class Gain:
    """Mean difference of held-out scores between two arms, its 95 % interval, and the mean of each seed."""

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]


def gain_of(arm: Scores, over: Scores) -> Gain:
    """Compare two arms at the best learning rate of each.

    The rate is chosen on one half of the held-out samples and judged on the other, and the reverse. The interval
    is that of a paired bootstrap over seeds and samples.
    """
    difference = best_scores(arm) - best_scores(over)
    seeds, samples = difference.shape
    draw = torch.Generator().manual_seed(0)
    by_seed = _resampled(seeds, draw) @ difference.double()  # (resamples, samples)
    means = (by_seed * _resampled(samples, draw)).sum(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Gain(float(difference.mean()), low, high, tuple(difference.mean(1).tolist()))


def best_scores(arm: Scores) -> torch.Tensor:
    """Return `[seeds, samples]`: each half of the samples by the rate that is best on the other half."""
    worst = min(float(values[values.isfinite()].min()) for values in arm.values() if values.isfinite().any())
    known = {rate: values.nan_to_num(worst, worst, worst) for rate, values in arm.items()}
    chosen = next(iter(known.values())).clone()
    for half in (0, 1):
        rate = max(known, key=lambda rate: float(known[rate][:, 1 - half :: 2].mean()))
        chosen[:, half::2] = known[rate][:, half::2]
    return chosen


def best_rate(arm: Scores) -> float:
    """Return the factor of the learning rate with the best mean score."""
    return max(arm, key=lambda rate: float(arm[rate].nan_to_num(-1e30).mean()))


def judge(over_base: Gain, over_placebo: Gain) -> Result:
    """Return what the experiment says of the finding.

    Confirmed: the fix is better than both other arms, for certain and in every seed. Not supported: worse than both.
    """
    gains = (over_base, over_placebo)
    if all(gain.low > 0 and min(gain.by_seed) > 0 for gain in gains):
        return "confirmed"
    return "not-supported" if all(gain.high < 0 for gain in gains) else "no-effect-seen"


def is_stalled(start: torch.Tensor, base: Scores, fix: Scores) -> bool:
    """Whether training without the fix got nowhere in comparison: a higher rate trains faster on sound programs too."""
    before = float(start.mean())
    return float(best_scores(base).mean()) - before < STALLED * (float(best_scores(fix).mean()) - before)


def _resampled(count: int, draw: torch.Generator) -> torch.Tensor:
    """Return weights `[resamples, count]` of draws with replacement; each row adds up to 1."""
    drawn = torch.randint(count, (RESAMPLES, count), generator=draw)
    weights = torch.zeros(RESAMPLES, count, dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64)) / count

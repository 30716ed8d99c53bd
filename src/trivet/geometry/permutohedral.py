"""Gaussian filtering in a space of several dimensions by the permutohedral lattice (Adams, Baek and Davis 2010).

Each point spreads its values over the d + 1 lattice vertices around it, the vertices are blurred with [1 2 1] along
each of the d + 1 lattice directions, and each point collects from its vertices again. Time and memory grow with the
points times d, whatever the width of the Gaussian.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError

_CROWDED, _CROWDED_BESIDE = 3, 3
"""With more than so many vertices a point, bridges are only what is next to so many vertices instead of two."""


class PermutohedralLattice:
    """The lattice around some points; `filter` approximates sum_j exp(-|x_i - x_j|^2 / 2) v_j up to a factor.

    The factor is the same for all points, so that it cancels in what is normalised.

    Only vertices near points exist, and nothing gets past one that does not: with those around the points alone, as
    the paper has it, a point at the edge of a sparse cloud can lose most of its neighbourhood. So the lattice also
    has the vertices that lie between two others ("bridges"); on photographs they double the vertices, take a
    third to a half off the mean error and two thirds off the largest.

    Args:
        points: `n` points in units of the Gaussian's standard deviation.

    Raises:
        UsageError: If the points are so far apart that the vertices cannot be numbered in 64 bits.
    """

    def __init__(self, points: Float[Tensor, "n d"]) -> None:
        keys, weights, steps = _surround(points.T.contiguous())
        sides, n = keys.shape
        ordered, order = keys.T.flatten().sort()
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        starts = first.nonzero()[:, 0]
        occupied = ordered[starts]
        beside = _CROWDED_BESIDE if len(occupied) > _CROWDED * n else 2
        vertices = _sorted_once(torch.cat([occupied, _bridges(occupied, steps, beside)]))
        self._count, self._occupied = len(vertices), torch.searchsorted(vertices, occupied)
        vertex = torch.empty_like(order)
        vertex[order] = self._occupied[first.cumsum(0) - 1]
        # 32 bits an index: half the memory to walk through
        weights = weights.T.contiguous()
        self._splat = _Sums((order // sides).int(), weights.flatten()[order], starts.int())
        self._slice = _Sums(vertex.view(n, sides).int(), weights)
        taps = points.new_tensor([1.0, 0.5, 0.5]).repeat(self._count + 1, 1)
        self._blurs = [_Sums(_neighbourhood(vertices, step), taps) for step in steps]

    def __len__(self) -> int:
        return self._count

    def filter(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Return the filtered values of all points."""
        held = values.new_zeros(
            self._count + 1, values.shape[1]
        )  # the last is the vertex that does not exist
        held[self._occupied] = self._splat(values)
        for blur in self._blurs:
            held = blur(held)
        return self._slice(held)


@dataclass(frozen=True)
class _Sums:
    """Weighted sums of rows: a sparse matrix, applied in one pass over memory.

    Args:
        rows: Which rows each sum takes: `(sums, k)`, or all in a line with `starts`.
        weights: How much each counts, of the same shape.
        starts: Where in the line each sum begins.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        return F.embedding_bag(
            self.rows, values, self.starts, mode="sum", per_sample_weights=self.weights.to(values.dtype)
        )


def _surround(points: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Return the vertices around points `(d, n)`.

    That is: their numbers `(d + 1, n)`, how much of the point each gets, and by how much the numbers of neighbours
    differ in each direction.

    The steps and their names follow section 4 of the paper: a vertex's coordinates sum to 0 and all leave the same
    remainder k when divided by d + 1.
    """
    elevated = _elevate(points)
    sides = len(elevated)
    # the nearest vertex of remainder 0: round all coordinates, then undo the roundings that were furthest off
    rounded = (elevated / sides).round()
    rank = _rank(elevated - rounded * sides) + rounded.sum(dim=0).to(torch.int64)
    below, above = rank < 0, rank >= sides
    rank += sides * (below.to(torch.int64) - above.to(torch.int64))
    rounded += below.to(rounded.dtype) - above.to(rounded.dtype)
    weights = _barycentric((elevated - rounded * sides) / sides, rank)
    base = rounded.to(torch.int64) * sides
    places = _place_values(base)
    number = (base * places).sum(dim=0)
    keys = torch.empty_like(base)
    for k in range(sides):  # the vertex of remainder k: k more everywhere, and d + 1 less in the k last ranks
        wraps = (rank >= sides - k).to(torch.int64)
        keys[k] = number + k * places.sum() - sides * (wraps * places).sum(dim=0)
    steps = [int(places.sum() - sides * places[axis]) for axis in range(sides)]
    return keys, weights, steps


def _elevate(points: Tensor) -> Tensor:
    """Return points `(d, n)` as coordinates `(d + 1, n)` that sum to 0, in the lattice's unit.

    One [1 2 1] blur a direction, with the spreading and collecting, is a Gaussian of sqrt(2/3) (d + 1) cells.
    """
    d = len(points)
    elevated = torch.zeros(d + 1, points.shape[1], dtype=points.dtype, device=points.device)
    total = torch.zeros_like(points[0])
    for axis in range(d, 0, -1):
        scaled = points[axis - 1] * (math.sqrt(2 / 3) * (d + 1) / math.sqrt(axis * (axis + 1)))
        elevated[axis] = total - axis * scaled
        total += scaled
    elevated[0] = total
    return elevated


def _rank(values: Tensor) -> Tensor:
    """Return each value's place `(k, n)` among the k of its column, the greatest first; ties by row."""
    rank = torch.zeros_like(values, dtype=torch.int64)
    for one in range(len(values)):
        for other in range(one):
            later = values[other] >= values[one]
            rank[one] += later
            rank[other] += ~later
    return rank


def _barycentric(offset: Tensor, rank: Tensor) -> Tensor:
    """Return how much of a point each vertex around it gets `(d + 1, n)`: positive, with the sum 1."""
    sides = len(offset)
    ordered = torch.empty_like(offset).scatter_(0, rank, offset)  # falling
    weights = torch.empty_like(offset)
    weights[0] = 1 - ordered[0] + ordered[-1]
    for k in range(1, sides):
        weights[k] = ordered[sides - 1 - k] - ordered[sides - k]
    return weights


def _place_values(base: Tensor) -> Tensor:
    """Return by what each coordinate is multiplied `(d + 1, 1)` so that vertices and neighbours have own numbers.

    The last coordinate follows from the others and does not count.
    """
    sides = len(base)
    spans = (base.amax(dim=1) - base.amin(dim=1) + 4 * sides).tolist()
    places = [1]
    for span in spans[: sides - 2]:
        places.append(places[-1] * span)
    if places[-1] * spans[sides - 2] >= 1 << 61:
        raise UsageError(
            f"a lattice of {sides - 1} dimensions cannot hold points this far apart: {spans} cells along its axes",
            "use a wider Gaussian",
        )
    return torch.tensor([*places, 0], device=base.device)[:, None]


def _bridges(vertices: Tensor, steps: list[int], least: int) -> Tensor:
    """Return what is next to at least so many of the vertices."""
    beside = _sorted(torch.cat([vertices + sign * step for step in steps for sign in (-1, 1)]))
    return _sorted_once(beside[least - 1 :][beside[least - 1 :] == beside[: 1 - least]])


def _sorted(numbers: Tensor) -> Tensor:
    """Return int64 numbers in order; NumPy's sort is some ten times as fast as PyTorch's on a CPU."""
    if numbers.device.type != "cpu":
        return numbers.sort().values
    return torch.from_numpy(np.sort(numbers.numpy()))


def _sorted_once(numbers: Tensor) -> Tensor:
    return torch.unique_consecutive(_sorted(numbers))


def _places_of(wanted: Tensor, ordered: Tensor) -> Tensor:
    """Return where each number would go in ordered ones."""
    if ordered.device.type != "cpu":
        return torch.searchsorted(ordered, wanted)
    return torch.from_numpy(np.searchsorted(ordered.numpy(), wanted.numpy()))


def _neighbourhood(vertices: Tensor, step: int) -> Tensor:
    """Return each vertex with the one before and after it in a direction, `(vertices + 1, 3)`.

    The vertex that does not exist has the number `len(vertices)`, and itself for neighbours.
    """
    missing = len(vertices)
    found = torch.full((missing + 1, 3), missing, dtype=torch.int32, device=vertices.device)
    found[:, 0] = torch.arange(missing + 1, device=vertices.device)
    wanted = vertices + step
    place = _places_of(wanted, vertices).clamp_(max=missing - 1)
    here = (vertices[place] == wanted).nonzero()[:, 0]
    found[here, 2] = place[here].int()
    found[place[here], 1] = here.int()
    return found

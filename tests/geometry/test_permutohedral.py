import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import UsageError
from trivet.geometry.permutohedral import PermutohedralLattice, _surround


def elevation(d: int) -> torch.Tensor:
    """The paper's basis of the plane whose coordinates sum to 0, scaled to [1 2 1]'s standard deviation."""
    rows = torch.zeros(d + 1, d, dtype=torch.float64)
    for axis in range(1, d + 1):
        rows[:axis, axis - 1], rows[axis, axis - 1] = 1, -axis
    return rows / rows.norm(dim=0) * math.sqrt(2 / 3) * (d + 1)


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_points_are_the_weighted_means_of_the_vertices_around_them(d, seed):
    torch.manual_seed(seed)
    points = torch.randn(40, d, dtype=torch.float64) * 5
    keys, weights, steps = _surround(points.T.contiguous())
    assert weights.min() >= -1e-9
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(40, dtype=torch.float64))
    # The numbers of vertices are linear in their coordinates, so the point's own "number" is their weighted mean.
    elevated = points @ elevation(d).T
    sides = d + 1
    places = [(steps[-1] - step) // sides for step in steps]  # step of an axis = sum(places) - sides * place
    assert places[-1] == 0
    assert steps[-1] == sum(places)
    expected = sum(place * elevated[:, axis] for axis, place in enumerate(places))
    torch.testing.assert_close((weights * keys).sum(dim=0), expected, rtol=1e-9, atol=1e-3)


def filtered(points: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised sums over all points: by the lattice, and by the definition in float64."""
    ones = torch.ones(len(points), 1)
    lattice = PermutohedralLattice(points)
    ours = lattice.filter(values) / lattice.filter(ones)
    kernel = torch.exp(-(torch.cdist(points.double(), points.double()) ** 2) / 2)
    return ours.double(), (kernel @ values.double()) / kernel.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_means_around_points_are_nearly_the_gaussians(d):
    torch.manual_seed(0)
    points = torch.randn(1500, d) * 1.5
    values = torch.cat([torch.sin(points), torch.rand(1500, 1)], dim=1)
    ours, exact = filtered(points, values)
    error = (ours - exact).abs().mean(dim=0)
    assert error.max() < 0.06 * values.std(dim=0).max()
    assert torch.corrcoef(torch.stack([ours[:, 0], exact[:, 0]]))[0, 1] > 0.99


def test_points_far_apart_do_not_reach_each_other():
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [40.0, 0.0]])
    found = PermutohedralLattice(points).filter(torch.eye(3))
    assert found[2, 0] == found[2, 1] == found[0, 2] == 0
    assert found[0, 1] > 0.5 * found[0, 0]


def test_the_filter_is_linear_and_one_point_is_enough():
    torch.manual_seed(0)
    points, values = torch.randn(50, 3), torch.randn(50, 4)
    lattice = PermutohedralLattice(points)
    torch.testing.assert_close(
        lattice.filter(values @ values.T[:, :4]),
        lattice.filter(values) @ values.T[:, :4],
        rtol=1e-4,
        atol=1e-4,
    )
    alone = PermutohedralLattice(points[:1])
    assert len(alone) >= 4
    assert alone.filter(torch.ones(1, 1)) > 0


def test_bridges_carry_what_would_be_lost():
    torch.manual_seed(0)
    points = torch.rand(400, 5) * 12  # sparse: most neighbouring vertices hold no point
    ours, exact = filtered(points, torch.rand(400, 1))
    lattice = PermutohedralLattice(points)
    assert len(lattice) > len(_surround(points.T.contiguous())[0].unique())
    assert (ours - exact).abs().mean() < 0.05


def test_points_too_far_apart_to_be_numbered_are_refused():
    with pytest.raises(UsageError, match="a lattice of 5 dimensions cannot hold points this far apart"):
        PermutohedralLattice(torch.tensor([[0.0] * 5, [1e6] * 5]))

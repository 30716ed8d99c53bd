"""The order of epochs: full batches, ranks that share them evenly, rare classes repeated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.drawn_samples import DrawnDataset
from trivet.data.order import Draw, EpochOrder, repeat_factors
from trivet.errors import UsageError

ORDERS = st.builds(
    EpochOrder,
    images=st.integers(1, 40),
    batch=st.integers(1, 6),
    world=st.integers(1, 4),
    seed=st.integers(0, 5),
    drop_last=st.booleans(),
)


def epoch(order, number, rank=0):
    return [order.draws(number, step, rank=rank) for step in range(order.steps)]


class TestEpochOrder:
    @given(order=ORDERS, number=st.integers(0, 3))
    def test_every_rank_has_as_many_full_batches(self, order, number):
        ranks = [epoch(order, number, rank) for rank in range(order.world)]
        assert {len(batches) for batches in ranks} == {order.steps}
        assert all(len(draws) == order.batch for batches in ranks for draws in batches)
        slots = [draw.slot for batches in ranks for draws in batches for draw in draws]
        assert sorted(slots) == list(range(order.steps * order.batch * order.world))

    @given(order=ORDERS, number=st.integers(0, 3))
    def test_images_appear_as_evenly_as_can_be(self, order, number):
        counts = np.bincount(order.indices(number), minlength=order.images)
        assert counts.max() - counts.min() <= 1
        if not order.drop_last or order.images <= order.batch * order.world:
            assert counts.min() >= 1
        else:
            assert counts.max() == 1
            assert (counts == 0).sum() < order.batch * order.world

    @given(images=st.integers(1, 40), batch=st.integers(1, 4), number=st.integers(0, 3))
    def test_ranks_together_are_one_large_process(self, images, batch, number):
        one = EpochOrder(images, batch * 2)
        two = EpochOrder(images, batch, world=2)
        for step in range(one.steps):
            assert one.draws(number, step) == two.draws(number, step, rank=0) + two.draws(
                number, step, rank=1
            )

    def test_epochs_and_seeds_differ_and_repeat(self):
        orders = {
            (seed, number): EpochOrder(50, 10, seed=seed).indices(number).tolist()
            for seed in range(3)
            for number in range(3)
        }
        assert len({tuple(order) for order in orders.values()}) == 9
        assert orders[1, 2] == EpochOrder(50, 10, seed=1).indices(2).tolist()

    def test_repeated_images(self):
        factors = np.array([1.0, 1.0, 2.5, 1.0, 4.0])
        order = EpochOrder(5, 2, drop_last=False, factors=factors)
        counts = np.array([np.bincount(order.indices(n)[: order.length], minlength=5) for n in range(400)])
        assert order.length == 10
        assert (counts.sum(1) == 10).all()
        assert (counts >= 1).all()
        assert np.abs(counts.mean(0) - factors * (10 / factors.sum())).max() < 0.1

    @pytest.mark.parametrize("wrong", [{"images": 0}, {"batch": 0}, {"world": 0}])
    def test_nothing_to_train_on(self, wrong):
        with pytest.raises(UsageError, match=f"at least one image.*{next(iter(wrong))}=0"):
            EpochOrder(**{"images": 3, "batch": 2, **wrong})

    def test_negative_seed(self):
        with pytest.raises(UsageError, match="seed=-1"):
            EpochOrder(3, 2, seed=-1)


class TestDraw:
    def test_every_draw_has_its_own_randomness(self):
        draws = [Draw(e, s, i) for e in range(4) for s in range(4) for i in range(4)]
        drawn = {(seed, draw.generator(seed).random()) for draw in draws for seed in range(3)}
        assert len({value for _, value in drawn}) == 4 * 4 * 4 * 3
        assert draws[7].generator(1).random() == draws[7].generator(1).random()


class TestRepeatFactors:
    def test_against_the_formula(self):
        truth = DrawnDataset(images=20, classes=20).truth  # each class is on 1 of 20 images
        np.testing.assert_allclose(repeat_factors(truth, threshold=0.2), 2.0)
        np.testing.assert_allclose(repeat_factors(truth, threshold=0.01), 1.0)

    def test_an_image_follows_its_rarest_class(self):
        truth = DrawnDataset(images=10, classes=10).truth
        truth.labels[:] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        np.testing.assert_allclose(repeat_factors(truth, threshold=0.4), [1] * 9 + [2])

    def test_crowds_do_not_count(self):
        truth = DrawnDataset(images=4, classes=4).truth
        truth.crowd[:] = True
        assert repeat_factors(truth, threshold=1.0).tolist() == [1.0] * 4

    @pytest.mark.parametrize("threshold", [0.0, 1.5])
    def test_threshold_is_a_share(self, threshold):
        with pytest.raises(UsageError, match=f"share of images above 0 and up to 1, got {threshold}"):
            repeat_factors(DrawnDataset().truth, threshold=threshold)

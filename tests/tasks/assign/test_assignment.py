import torch
from hypothesis import given
from hypothesis import strategies as st

from trivet.tasks.assign.assignment import best_of_each

pairs = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.1, 0.5, 0.9])), max_size=30)


@given(pairs)
def test_best_of_each_key_is_its_highest_and_first(rows):
    keys = torch.tensor([key for key, _ in rows], dtype=torch.int64)
    scores = torch.tensor([score for _, score in rows])
    best: dict[int, int] = {}
    for row, (key, score) in enumerate(rows):
        if key not in best or score > rows[best[key]][1]:
            best[key] = row
    assert sorted(best_of_each(keys, scores).tolist()) == sorted(best.values())

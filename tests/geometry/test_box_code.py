import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from trivet.geometry.box_code import decode, encode

side = st.floats(1, 500, width=32)
place = st.floats(-100, 900, width=32)
rows = st.lists(st.tuples(place, place, side, side), min_size=2, max_size=2)


def test_code_of_a_known_pair():
    anchor = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 x 40, centre (20, 40)
    box = torch.tensor([[10.0, 40.0, 50.0, 60.0]])  # 40 x 20, centre (30, 50)
    torch.testing.assert_close(encode(box, anchor), torch.tensor([[0.25, 0.5, -math.log(2), math.log(2)]]))


def test_no_deltas_give_the_anchor():
    anchor = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    torch.testing.assert_close(decode(torch.zeros(1, 4), anchor), anchor)


@given(rows)
def test_decode_undoes_encode(pair):
    box, anchor = (torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64) for x, y, w, h in pair)
    torch.testing.assert_close(decode(encode(box, anchor), anchor), box, atol=1e-6, rtol=1e-9)


def test_a_bound_keeps_huge_deltas_finite():
    deltas = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    anchor = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert decode(deltas, anchor).isinf().all()
    torch.testing.assert_close(
        decode(deltas, anchor, most_log=math.log(10)), torch.tensor([[-9.0, -9, 11, 11]])
    )

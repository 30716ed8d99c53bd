import pytest

from tests.models.necks.layouts import effdet_nodes
from trivet.models.necks.quad import quad_layout


@pytest.mark.parametrize("levels", [(3, 7), (3, 8), (2, 4), (3, 4)], ids=str)
def test_layout_is_effdets(levels):
    assert [(node.level, node.inputs) for node in quad_layout(*levels)] == effdet_nodes("qufpn_fa", levels)

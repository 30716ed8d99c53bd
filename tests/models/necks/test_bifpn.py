import pytest

from tests.models.necks.layouts import effdet_nodes
from trivet.models.necks.bifpn import bifpn_layout


@pytest.mark.parametrize("levels", [(3, 7), (3, 8), (2, 4), (3, 4)], ids=str)
def test_layout_is_effdets(levels):
    assert [(node.level, node.inputs) for node in bifpn_layout(*levels)] == effdet_nodes("bifpn_fa", levels)

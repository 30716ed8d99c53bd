"""Lines over the batch go through the storages that two runs have in common."""

from trivet.memory.ledger import SAVED, Ledger, Storage, draw_lines

KEPT, DROPPED = "kept", "dropped"


def _ledger(batch, *, life, item=100, whole=7):
    """A step that works through its batch item by item, and makes one storage of it all by the same operator."""
    ledger = Ledger(batch, phases=[(0, "forward")])
    for _ in range(batch):
        birth = ledger.tick()
        death = ledger.tick() if life == DROPPED else None
        ledger.storages.append(Storage(item, birth, SAVED, "forward", "", "mul", death))
    ledger.storages.append(Storage(whole * batch, ledger.tick(), SAVED, "forward", "", "mul"))
    ledger.storages.append(Storage(3, ledger.tick(), SAVED, "forward", "", "sum"))
    ledger.phases.append((ledger.tick(), "backward"))
    return ledger


def test_what_waits_for_the_backward_pass_for_each_example_grows_with_them():
    curve = draw_lines([_ledger(2, life=KEPT), _ledger(4, life=KEPT)])
    for batch in (2, 4, 30):
        assert curve.peak(batch) == 100 * batch + 7 * batch + 3


def test_what_is_dropped_after_each_example_does_not():
    curve = draw_lines([_ledger(2, life=DROPPED, item=1000), _ledger(4, life=DROPPED, item=1000)])
    assert curve.peak(30) == 1000


def test_an_example_that_is_there_before_the_step_grows():
    def given(batch):
        return Ledger(batch, [Storage(50, -1, "input batch", "forward", "", "") for _ in range(batch)])

    assert draw_lines([given(2), given(4)]).peak(10) == 500

import threading

import pytest

from trivet.recipe.ahead import Behind, ahead


def test_results_come_in_order_and_little_is_done_before_it_is_wanted():
    begun = []
    results = ahead(lambda item: begun.append(item) or item * 2, range(100), workers=2, waiting=3)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(begun) <= 3 + 3 + 1
    results.close()
    assert len(begun) <= 3 + 3 + 1


def test_what_work_raises_comes_out_where_its_result_would():
    results = ahead(lambda item: 1 // item, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_thread_is_left():
    before = threading.active_count()
    assert list(ahead(str, range(5), workers=3, waiting=3)) == list("01234")
    assert threading.active_count() == before


def test_work_behind_is_done_when_the_block_ends():
    done = []
    with Behind(workers=1, waiting=2) as behind:
        for number in range(20):
            behind.do(lambda number=number: done.append(number))
    assert done == list(range(20))


def test_an_error_behind_reaches_the_caller():
    with pytest.raises(ZeroDivisionError), Behind() as behind:
        behind.do(lambda: 1 // 0)  # type: ignore[arg-type,return-value]

"""Batches made ahead: the same ones, errors in their place, and no thread that outlives its use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from limits import HANG

from minswin.data import Batches
from minswin.data.ahead import ahead
from minswin.data.shapes import shapes


def makers():
    return [t for t in threading.enumerate() if t.name.startswith("minswin-data")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert makers() == []


@pytest.mark.parametrize("depth", [1, 2, 9])
def test_the_same_items_come_in_the_same_order(depth):
    items = [object() for _ in range(6)]
    assert list(ahead(items, depth=depth)) == items
    assert list(ahead(iter(items), depth=depth)) == items
    assert list(ahead([], depth=depth)) == []


def test_items_are_made_by_another_thread_while_the_caller_works(monkeypatch):
    made, names, orders = threading.Semaphore(0), [], []

    class Counting(ThreadPoolExecutor):
        def submit(self, *work):
            orders.append(work)
            return super().submit(*work)

    monkeypatch.setattr("minswin.data.ahead.ThreadPoolExecutor", Counting)

    def source():
        for i in range(8):
            names.append(threading.current_thread().name)
            made.release()
            yield i

    items = ahead(source(), depth=2)
    assert names == []  # nothing begins before the first item is asked for
    assert next(items) == 0
    assert all(
        made.acquire(timeout=HANG) for _ in range(3)
    )  # item 0, and two that nobody asked for
    assert len(orders) == 3  # and no more than those two
    assert list(items) == [1, 2, 3, 4, 5, 6, 7]
    assert all(name.startswith("minswin-data") for name in names)


def test_an_error_comes_where_its_item_would():
    def source():
        yield from range(3)
        raise ValueError("batch 3 is spoilt")

    got = []
    with pytest.raises(ValueError, match="batch 3 is spoilt"):
        for item in ahead(source(), depth=2):
            got.append(item)
    assert got == [0, 1, 2]


@pytest.mark.parametrize("how", ["break", "error", "close"])
def test_the_thread_ends_when_the_caller_stops_early(how):
    source = iter(range(1_000_000))
    items = ahead(source, depth=2)
    if how == "close":
        assert next(items) == 0 and makers()
        items.close()
    elif how == "break":
        for item in ahead(source, depth=2):
            assert makers()
            if item == 3:
                break
    else:
        with pytest.raises(RuntimeError, match="of the caller"):
            for item in ahead(source, depth=2):
                if item == 3:
                    raise RuntimeError("of the caller")
    assert makers() == []
    assert next(source) < 10  # and nothing more was made


def test_errstate_of_the_caller_holds_in_the_thread():
    def source():
        yield np.array([1e308]) * 10

    with np.errstate(over="ignore"):
        assert np.isinf(next(ahead(source())))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        next(ahead(source()))


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="ahead: depth must be 1 or more, got 0"):
        ahead([1], depth=0)


def test_an_epoch_made_ahead_is_the_epoch():
    batches = Batches(shapes(20, seed=1), 4, seed=2, augment="strong", mixup=0.5, cutmix=0.5)
    for start in (0, 3):
        want = list(batches.epoch(1, start=start))
        got = list(ahead(batches.epoch(1, start=start)))
        assert len(want) == len(got) == 5 - start
        for one, other in zip(want, got, strict=True):
            assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])

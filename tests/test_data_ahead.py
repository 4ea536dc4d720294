"""Batches made ahead: the same ones, errors in their place, and no thread that outlives its use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from limits import HANG

from minswin.data import Batches
from minswin.data.ahead import ahead
from minswin.data.shapes import shapes

WORKERS = pytest.mark.parametrize("workers", [1, 2, 5])


def makers():
    return [t for t in threading.enumerate() if t.name.startswith("minswin-data")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert makers() == []


@WORKERS
def test_the_same_items_come_in_the_same_order(workers):
    items = [object() for _ in range(9)]
    assert list(ahead(items.__getitem__, range(9), workers=workers)) == items
    assert list(ahead(items.__getitem__, iter(range(9)), workers=workers)) == items
    assert list(ahead(items.__getitem__, [], workers=workers)) == []


def test_an_item_that_is_made_sooner_waits_for_its_turn():
    made = [threading.Event() for _ in range(4)]

    def make(place):
        if place < 3:
            assert made[place + 1].wait(HANG)  # each is made after the one that follows it
        made[place].set()
        return place

    assert list(ahead(make, range(4), workers=4)) == [0, 1, 2, 3]


@WORKERS
def test_items_are_made_by_other_threads_while_the_caller_works(monkeypatch, workers):
    made, names, orders = threading.Semaphore(0), [], []

    class Counting(ThreadPoolExecutor):
        def submit(self, *work):
            orders.append(work)
            return super().submit(*work)

    monkeypatch.setattr("minswin.data.ahead.ThreadPoolExecutor", Counting)

    def make(place):
        names.append(threading.current_thread().name)
        made.release()
        return place

    items = ahead(make, range(20), workers=workers)
    assert names == []  # nothing begins before the first item is asked for
    assert next(items) == 0
    for _ in range(workers + 2):  # item 0, and those that nobody asked for
        assert made.acquire(timeout=HANG)
    assert len(orders) == workers + 2  # and no more than those
    assert list(items) == list(range(1, 20))
    assert all(name.startswith("minswin-data") for name in names)


def test_several_workers_make_items_at_the_same_time():
    together = threading.Barrier(3)
    items = ahead(lambda _: together.wait(HANG), range(9), workers=3)
    assert sorted(items) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@WORKERS
def test_an_error_comes_where_its_item_would(workers):
    def make(place):
        if place >= 3:
            raise ValueError(f"batch {place} is spoilt")
        return place

    got = []
    with pytest.raises(ValueError, match="batch 3 is spoilt"):
        for item in ahead(make, range(20), workers=workers):
            got.append(item)
    assert got == [0, 1, 2]


@WORKERS
@pytest.mark.parametrize("how", ["break", "error", "close"])
def test_the_threads_end_when_the_caller_stops_early(how, workers):
    made = []

    def items():
        return ahead(lambda place: made.append(place) or place, range(1000), workers=workers)

    if how == "close":
        begun = items()
        assert next(begun) == 0 and makers()
        begun.close()
    elif how == "break":
        for item in items():
            assert makers()
            if item == 3:
                break
    else:
        with pytest.raises(RuntimeError, match="of the caller"):
            for item in items():
                if item == 3:
                    raise RuntimeError("of the caller")
    assert makers() == []
    assert len(made) <= 3 + 1 + workers + 1  # those that came, and those that waited


def test_errstate_of_the_caller_holds_in_the_threads():
    both = threading.Barrier(2)

    def make(place):
        both.wait(HANG)  # two threads at once
        return np.array([1e308]) * 10

    with np.errstate(over="ignore"):
        assert np.isinf(list(ahead(make, range(2), workers=2))).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        next(ahead(make, range(2), workers=2))


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_refused(workers):
    with pytest.raises(ValueError, match=f"ahead: workers must be 1 or more, got {workers}"):
        ahead(str, [1], workers=workers)


@WORKERS
def test_an_epoch_made_ahead_is_the_epoch(workers):
    batches = Batches(shapes(20, seed=1), 4, seed=2, augment="strong", mixup=0.5, cutmix=0.5)
    for start in (0, 3):
        want = list(batches.epoch(1, start=start))
        got = list(ahead(partial(batches.batch, 1), range(start, 5), workers=workers))
        assert len(want) == len(got) == 5 - start
        for one, other in zip(want, got, strict=True):
            assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])

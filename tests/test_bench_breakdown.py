"""The breakdown of a step by operation: rows that add up, and watching that changes nothing."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
from bench_results import SMALL
from table import COMPOSITES

from minswin import kernels, ops
from minswin.autograd import Tensor
from minswin.bench import breakdown, report, setups
from minswin.bench.breakdown import REST, Entry, Ledger, Row, rows_of, watching
from minswin.bench.ceilings import Ceilings


def test_the_rows_of_a_step_add_up_and_name_what_ran():
    found = breakdown.break_down(SMALL, rounds=1)
    assert (found.model, found.batch) == ("swin_shapes", 2)
    assert math.isclose(sum(row.seconds for row in found.rows), found.seconds)
    calls = {(row.operation, row.direction): row.calls for row in found.rows}
    model = setups.our_model(SMALL, np.random.default_rng(0))
    blocks = sum(len(stage.blocks) for stage in model.layers)
    for direction in ("forward", "backward"):
        assert calls["shifted_window_attention", direction] == blocks
        assert calls["mlp", direction] == blocks
        assert calls["cross_entropy", direction] == calls["conv2d", direction] == 1
    assert calls["optimizer", "update"] == 1 and found.rows[-1].operation == REST
    assert all(row.seconds > 0 for row in found.rows)


def test_the_middle_one_of_several_steps_is_shown(monkeypatch):
    lengths = iter([9.0, 30.0, 10.0, 20.0])  # the first warms up
    monkeypatch.setattr(
        breakdown,
        "training_step",
        lambda setup: (
            lambda ledger: ledger.entries.append(Entry("add", "forward", next(lengths), 0, 0))
        ),
    )
    monkeypatch.setattr(
        breakdown, "seconds", lambda step: step() or 1 + step.args[0].entries[0].seconds
    )
    found = breakdown.break_down(SMALL, rounds=3)
    assert found.seconds == 21
    assert [(row.operation, row.seconds) for row in found.rows] == [("add", 20.0), (REST, 1.0)]


def test_rows_are_sums_with_the_longest_first_and_the_rest_last():
    entries = [
        Entry("add", "forward", 1.0, 0, 8),
        Entry("linear", "forward", 4.0, 10, 0),
        Entry("add", "forward", 2.0, 0, 16),
        Entry("add", "backward", 0.5, 0, 4),
    ]
    assert rows_of(entries, 10.0) == [
        Row("linear", "forward", 1, 4.0, 10, 0),
        Row("add", "forward", 2, 3.0, 0, 24),
        Row("add", "backward", 1, 0.5, 0, 4),
        Row(REST, "", 0, 2.5, 0, 0),
    ]


def test_the_breakdown_shows_rates_and_shares_of_the_ceilings():
    rows = [
        Row("linear", "forward", 3, 0.5, 20 * 10**9, 0),
        Row("add", "forward", 2, 0.25, 0, 10**9),
        Row(REST, "", 0, 0.25, 0, 0),
    ]
    found = breakdown.Breakdown("swin", 4, 1.0, rows)
    text = report.breakdown_table(found, Ceilings(1, 100.0, 16.0))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[4:] == [
        "linear forward 3 500.0 50.0% 40.0 GF/s 40%",
        "add forward 2 250.0 25.0% 4.0 GB/s 25%",
        f"{REST} · 250.0 25.0% · ·",
        "the whole step 5 1000.0",
    ]


# ── watching ──────────────────────────────────────────────────────────────────────────────────────


def test_watching_changes_no_number_and_ends():
    rng = np.random.default_rng(3)
    x, w = (Tensor(rng.standard_normal(s), requires_grad=True) for s in ((5, 4), (3, 4)))

    def step():
        x.grad = None
        loss = ops.gelu(ops.linear(x, w, None)).sum()
        loss.backward()
        return loss.item(), x.grad.tolist()

    choose, plain = kernels.fast, step()
    with watching(Ledger()) as ledger:
        assert kernels.fast is choose  # other threads choose their kernels there
        assert step() == plain
    names = ["linear", "gelu", "sum"]
    assert [e.operation for e in ledger.entries] == names + names[::-1]
    assert [e.direction for e in ledger.entries] == ["forward"] * 3 + ["backward"] * 3
    assert ledger.macs == 3 * 5 * 4 * 3
    with pytest.raises(ZeroDivisionError), watching(ledger):
        raise ZeroDivisionError
    assert step() == plain and len(ledger.entries) == 6


def test_without_a_kernel_the_steps_of_a_composite_are_seen():
    model = setups.our_model(SMALL, np.random.default_rng(0))
    with kernels.using("reference"), watching(Ledger()) as ledger:
        model(setups.data(SMALL)[0])
    seen = {entry.operation for entry in ledger.entries}
    assert {"window_partition", "attention", "gelu"} <= seen
    assert seen.isdisjoint(COMPOSITES)


def test_a_ledger_holds_no_array():
    w = Tensor(np.ones(7), requires_grad=True)
    with watching(Ledger()) as ledger:
        middle = ops.negative(w)
        gone = weakref.ref(middle.data)
        y = ops.negative(middle)
    del middle
    assert gone() is None and len(ledger.entries) == 2
    y.backward(np.ones(7))
    assert w.grad.sum() == 7 and len(ledger.entries) == 4


def test_operations_inside_of_the_optimizer_are_counted_once(monkeypatch):
    ledger, clock = Ledger(), iter([0.0, 0.25])
    monkeypatch.setattr(breakdown.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(breakdown, "seconds", lambda step: step() or 1.0)

    def step():
        ops.add(np.ones(2), np.ones(2))

    with watching(ledger), kernels.using("reference"):
        ledger.update(step)
    assert [(e.operation, e.seconds) for e in ledger.entries] == [
        ("add", 0.25),
        ("optimizer", 0.75),
    ]

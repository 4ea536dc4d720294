"""`minswin bench`: its arithmetic on made-up times, its counts, its children, what it writes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from table import COMPOSITES

from minswin import cli, kernels, ops
from minswin.autograd import Tensor
from minswin.bench import (
    breakdown,
    busy,
    ceilings,
    contenders,
    peers,
    pictures,
    race,
    report,
    run,
    setups,
)
from minswin.bench.breakdown import REST, Entry, Ledger, Row, rows_of, watching
from minswin.bench.ceilings import Ceilings
from minswin.bench.children import Child, Failed, blas_threads, call
from minswin.bench.clock import Spread, peak_memory, seconds, spread
from minswin.bench.counting import MACS, backward_work, forward_work
from minswin.bench.machine import machine, save_json
from minswin.bench.race import Lap, Start
from minswin.bench.setups import Setup
from minswin.bench.startup import Startup, Startups
from minswin.bench.sweep import Point, check_sides, per_pixel, sweep
from minswin.look.tables import BLANK

SMALL = Setup("swin_shapes", 4, 32, 10)


def lap(train, infer, peak, parameters=7):
    start = Start(parameters, first_step=2 * train, imported=peak / 3, peak=peak)
    return Lap(start, spread([train] * 3), spread([infer] * 3))


RESULT = {
    "minswin": lap(0.5, 0.2, 300.0),
    "timm": lap(0.75, 0.4, 900.0),
    "transformers-fused": lap(1.0, 0.25, 1050.0),
    "timm-fused": "ImportError: " + peers.MISSING,
}


# ── times and ratios ─────────────────────────────────────────────────────────────────────────────


def test_a_spread_is_the_quartiles():
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(2.0, 3.0, 4.0)
    assert spread([1.0, 2.0]) == Spread(1.25, 1.5, 1.75)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_the_seconds_of_a_step_are_the_time_it_takes(monkeypatch):
    now = iter([5.0, 5.25])  # before the step, and after it
    monkeypatch.setattr("minswin.bench.clock.time.perf_counter", lambda: next(now))
    ran = []
    assert seconds(lambda: ran.append("the step")) == 0.25 and ran == ["the step"]


def test_ratios_are_multiples_of_minswin_s_figures():
    assert race.ratios(RESULT) == {
        "minswin": {"train": 1.0, "infer": 1.0, "memory": 1.0},
        "timm": {"train": 1.5, "infer": 2.0, "memory": 3.0},
        "transformers-fused": {"train": 2.0, "infer": 1.25, "memory": 3.5},
    }
    assert race.ratios({"minswin": "no reason", "timm": RESULT["timm"]}) == {}


def test_contenders_take_turns_and_each_begins_once(monkeypatch):
    monkeypatch.setattr(race, "REST", 0)
    turns = []

    def lane(name, each):
        return lambda phase: turns.append((name, phase)) or each

    lanes = {name: lane(name, 10.0 * i) for i, name in enumerate("abc")}
    times = race._turns(lanes, 3, lambda line: None)
    assert [name for name, phase in turns if phase == "train"] == list("abcbcacab")
    assert [phase for _, phase in turns] == ["train"] * 9 + ["infer"] * 9
    assert times == {n: {p: [10.0 * i] * 3 for p in race.PHASES} for i, n in enumerate("abc")}


def test_another_number_of_parameters_is_another_model():
    ours = lap(1, 1, 1, parameters=1234).start
    race.same_parameters(ours._replace(peak=9), ours)
    with pytest.raises(Failed, match="it has 1,235 parameters, minswin has 1,234"):
        race.same_parameters(ours._replace(parameters=1235), ours)


def test_the_ceilings_are_work_by_the_best_time(monkeypatch):
    times = iter([0.5, 0.25, 1.0, 2.0, 4.0] * 2)
    monkeypatch.setattr(ceilings, "seconds", lambda step: (step(), next(times))[1])
    assert ceilings.product_rate(side=3) == 2 * 27 / 0.25
    assert ceilings.copy_rate(2, numbers=1000) == 2 * 4000 / 0.25


def growth(mebibytes):
    """In a child: how much its peak rises when it fills so much memory for a moment."""
    before = peak_memory()
    np.ones(mebibytes * 2**20, np.uint8)
    return peak_memory() - before


def test_the_peak_remembers_memory_that_was_given_back():
    assert 60 < call(growth, 64) < 68


# ── counting ─────────────────────────────────────────────────────────────────────────────────────


def blank(*sides):
    return np.empty(sides, np.float32)


@pytest.mark.parametrize(
    ("name", "shapes", "settings", "macs"),
    [
        ("matmul", [(2, 1, 3, 4), (5, 4, 6)], {}, 2 * 5 * 3 * 4 * 6),
        ("linear", [(2, 3, 4), (5, 4), (5,)], {}, 6 * 4 * 5),
        ("mlp", [(2, 3, 4), (8, 4), (8,), (5, 8), (5,)], {}, 6 * 4 * 8 + 6 * 8 * 5),
        ("attention", [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)], {}, 6 * 4 * 6 * (5 + 7)),
        ("conv2d", [(2, 3, 8, 12), (5, 3, 2, 4)], {"stride": (2, 4)}, 2 * 12 * 5 * 3 * 8),
        ("conv2d", [(2, 3, 5, 6), (5, 3, 3, 2)], {"padding": (1, 0)}, 2 * 5 * 5 * 5 * 3 * 6),
        # 2 images of 4 windows of 6 tokens; each meets 6 in q kᵀ and again in P v, 8 channels
        (
            "shifted_window_attention",
            [(2, 4, 6, 24), (15, 2)],
            {"heads": 2, "window": (2, 3), "shift": (1, 1), "table_window": (2, 3)},
            2 * 4 * 6 * 6 * 8 * 2,
        ),
    ],
)
def test_products_are_counted_from_their_shapes(name, shapes, settings, macs):
    inputs = [blank(*s) for s in shapes] + [None] * (name in ("attention", "conv2d"))
    value, g = blank(2, 2), blank(2, 2)
    assert forward_work(name, inputs, settings, value) == (2 * macs, 0)
    assert backward_work(name, 2 * macs, 99, g, (blank(3), blank(4))) == (4 * macs, 0)
    assert backward_work(name, 2 * macs, 99, g, (None, blank(4))) == (2 * macs, 0)


def test_every_counted_product_is_an_operation():
    with kernels.using("numba"):
        assert set(MACS) <= set(kernels.FAST)


def test_other_operations_are_counted_in_bytes():
    x, gain = blank(3, 5), blank(5)
    assert forward_work("layer_norm", (x, gain, gain), {}, blank(3, 5)) == (0, 60 + 40 + 60)
    assert forward_work("reshape", (x,), {}, x.reshape(15)) == (0, 0)
    g = blank(3, 5)
    assert backward_work("layer_norm", 0, 100, g, (blank(3, 5), None)) == (0, 60 + 60 + 100)
    assert backward_work("roll", 0, 100, g, (blank(3, 5),)) == (0, 60 + 60)
    assert backward_work("add", 0, 120, g, (g, g)) == (0, 0)


# ── the breakdown ────────────────────────────────────────────────────────────────────────────────


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


# ── the sweep ────────────────────────────────────────────────────────────────────────────────────


def test_cost_per_pixel_is_relative_to_224():
    points = [
        Point(side, macs, spread([t]))
        for side, macs, t in [(112, 30, 0.5), (224, 100, 1.0), (448, 500, 6.0)]
    ]
    assert per_pixel(points) == {112: (2.0, 1.2), 224: (1.0, 1.0), 448: (1.5, 1.25)}
    assert per_pixel(points[2:]) == {448: (1.0, 1.0)}


def test_the_sweep_counts_the_products_of_every_side(monkeypatch):
    monkeypatch.setattr("minswin.bench.sweep.MODELS", ("swin_shapes", "no_such_model"))
    found = sweep((32, 64), rounds=2)
    assert list(found) == ["swin_shapes"]
    small, large = found["swin_shapes"]
    assert (small.side, large.side) == (32, 64)
    classes = 1000 * setups.our_model(SMALL, np.random.default_rng(0)).head.weight.shape[1]
    assert large.macs - classes == 4 * (small.macs - classes)
    assert small.times.low <= small.times.median <= small.times.high


def test_sides_that_patches_do_not_divide_are_refused():
    check_sides([32, 48])
    with pytest.raises(ValueError, match=r"multiples of 16, 32 or more, got \[100, 16\]"):
        check_sides([100, 224, 16])


# ── children ─────────────────────────────────────────────────────────────────────────────────────


def counter(start):
    """Adds up what it is asked, in its child."""
    total = start
    while True:
        total += yield total


def test_a_child_answers_and_keeps_its_state():
    with Child(counter, 5) as child:
        assert (child.answer, child.ask(2), child.ask(3)) == (5, 7, 10)


def test_a_child_that_fails_says_why_and_one_that_dies_is_noticed():
    with pytest.raises(Failed, match="ValueError: invalid literal for int"):
        call(int, "x")
    with pytest.raises(Failed, match=r"its process ended \(exit code 3"):
        call(os._exit, 3)


def test_the_environment_of_a_child_is_its_own(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert call(os.getenv, "MKL_NUM_THREADS", environment=blas_threads(3)) == "3"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_a_child_can_be_without_a_variable(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert call(os.getenv, "OPENBLAS_CORETYPE", environment=race.ENVIRONMENT) is None
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


def test_a_race_of_our_own_contenders_measures_both():
    lines = []
    found = race.race(("minswin", "reference"), SMALL, threads=1, rounds=1, tell=lines.append)
    assert list(found) == ["minswin", "reference"] and len(lines) == 4
    parameters = setups.our_model(SMALL, np.random.default_rng(0)).parameter_count()
    for measured in found.values():
        assert measured.start.parameters == parameters
        assert 0 < measured.start.imported <= measured.start.peak
        assert measured.train.median > 0 and measured.infer.median > 0


def test_a_model_that_there_is_not_gives_its_reason_and_nobody_runs():
    setup = SMALL._replace(model="swin_unheard_of")
    found = race.race(("minswin", "timm"), setup, threads=1, rounds=1, tell=lambda line: None)
    assert list(found) == ["minswin"]
    assert "this version of minswin has no model 'swin_unheard_of'" in found["minswin"]
    assert "minswin did not run: ValueError: bench:" in report.race_table(setup, found, 1, 1)


def test_missing_torch_is_a_reason_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'missing; pip install "minswin\[parity\]" \('):
        contenders.load("timm")


def test_the_shapes_that_transformers_is_given_are_those_of_our_models():
    assert peers._swin_shape(setups.SETUPS["cifar"]) == {
        "image_size": 32,
        "num_labels": 10,
        "patch_size": 2,
        "embed_dim": 48,
        "depths": [2, 4, 2],
        "num_heads": [3, 6, 12],
        "window_size": 4,
        "mlp_ratio": 4.0,
    }
    for name, theirs in peers.VITS.items():
        ours = setups.our_model(Setup(name, 1, 224, 10), BLANK)
        hidden, channels = ours.blocks[0].mlp.fc1.weight.shape
        assert (channels, hidden) == (theirs["hidden_size"], theirs["intermediate_size"])
        assert len(ours.blocks) == theirs["num_hidden_layers"]
        assert ours.blocks[0].attn.heads == theirs["num_attention_heads"]
        assert ours.patch_size == (theirs["patch_size"],) * 2


# ── what is shown and written ────────────────────────────────────────────────────────────────────


def test_the_race_is_a_table_with_reasons_below():
    lines = report.race_table(SMALL, RESULT, 2, 1).splitlines()
    assert lines[0] == "swin_shapes, batch 4, 32×32, 7 parameters, 2 threads, 1 round"
    assert lines[2].split()[0] == "contender" and set(lines[3]) == {"─"}
    timm = "timm 750 ms (750–750) 1.50 400 ms (400–400) 2.00 900 MiB 3.00 300 MiB"
    assert lines[5].split() == timm.split()
    assert lines[8] == (
        "against the best peer of each column: training 1.50 (timm), "
        "inference 1.25 (transformers-fused), memory 3.00 (timm)"
    )
    assert lines[-2].startswith("timm-fused did not run: ImportError")
    assert lines[-1] == 'For the comparison with PyTorch: pip install "minswin[parity]"'


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


def test_what_compiling_costs_is_the_difference_of_two_starts():
    empty = Startup(0.1, 0.2, load_kernels=1.5, build_model=0.3, first_step=9.0, second_step=0.5)
    warm = empty._replace(load_kernels=0.5, first_step=1.0)
    found = Startups("cifar", 2, empty, warm, 14)
    assert found.compiling == 9.0
    text = report.startup_table(found)
    assert text.endswith("Compiling the 14 kernels of a training step from nothing takes 9.0 s.")
    assert [line.split() for line in text.splitlines()][6] == ["first", "step", "9.00", "1.00"]


def test_a_table_has_its_numbers_under_each_other():
    assert report.columns([("a", "b"), ("cc", "ddd")]) == "a     b\n───────\ncc  ddd"
    assert report.duration(Spread(0.0012, 0.00234, 0.0125)) == "2.3 ms (1.2–12)"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "bench.json"
    save_json({"race": RESULT, "points": (Point(32, 9, Spread(1.0, 2.0, 3.0)),)}, path)
    before = json.loads(path.read_text("utf-8"))
    assert before["race"]["timm"]["train"] == {"low": 0.75, "median": 0.75, "high": 0.75}
    assert before["points"][0]["times"]["median"] == 2.0
    with pytest.raises(ValueError, match="JSON compliant"):
        save_json({"race": RESULT, "wrong": float("nan")}, path)
    assert json.loads(path.read_text("utf-8")) == before
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]


def test_the_machine_is_described_with_its_versions():
    found = machine()
    assert found["numpy"] == np.__version__ and found["processor"] and found["cores_usable"] >= 1
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_picture_has_a_panel_for_each_race_and_one_for_the_sweep(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    points = {"swin": [Point(s, s, spread([s * s * 1e-6])) for s in (112, 224)]}
    titles = []
    monkeypatch.setattr(pictures, "draw_ratios", lambda axes, name, _: titles.append(name))
    assert pictures.save_pictures({"cifar": RESULT, "tiny": RESULT}, points, tmp_path / "b.png")
    assert titles == ["cifar", "tiny"]
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"
    assert not pictures.save_pictures({"vit": {"minswin": "no model"}}, None, tmp_path / "c.png")
    assert [p.name for p in tmp_path.iterdir()] == ["b.png"]


def test_bars_are_as_high_as_the_ratios():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = pictures.draw_ratios(figure.subplots(), "cifar", race.ratios(RESULT))
    assert [bar.get_height() for bar in axes.patches] == [1, 1, 1, 1.5, 2, 3, 2, 1.25, 3.5]
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == ["minswin", "timm", "transformers-fused"]


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_shows_the_table_and_writes_both_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    asked = []

    def pretend(names, setup, **settings):
        asked.append((names, setup.model, settings["threads"], settings["rounds"]))
        return RESULT

    monkeypatch.setattr(run, "race", pretend)
    out = tmp_path / "bench.json"
    command = ["bench", "tiny", "cifar", "--race", "--compile", "--threads", "3", "--rounds", "4"]
    assert cli.main([*command, "-o", str(out)]) == 0
    names = (*run.CONTENDERS, "timm-compiled")
    assert asked == [(names, "swin_tiny", 3, 4), (names, "swin_cifar", 3, 4)]
    shown, told = capsys.readouterr()
    assert "swin_tiny, batch 8, 224×224" in shown and str(tmp_path / "bench.png") in shown
    assert "race cifar: swin_cifar" in told
    written = json.loads(out.read_text("utf-8"))
    assert written["race"]["cifar"]["ratios"]["timm"]["train"] == 1.5
    assert written["settings"]["rounds"] == 4 and "breakdown" not in written
    assert {p.name for p in tmp_path.iterdir()} == {"bench.json", "bench.png"}


def test_without_options_three_parts_of_all_configurations_are_measured(monkeypatch):
    made = []
    monkeypatch.setattr(
        run, "Bench", lambda *a, **kw: made.append((a, kw)) or SimpleNamespace(run=dict)
    )
    assert cli.main(["bench"]) == 0 and cli.main(["bench", "--sweep", "--sides", "64"]) == 0
    assert made[0][1]["parts"] == ("race", "startup", "breakdown") and made[0][0] == ([],)
    assert made[0][1]["contenders"] == run.CONTENDERS
    assert made[1][1]["parts"] == ["sweep"] and made[1][1]["sides"] == [64]
    assert set(cli.PARTS_OF_BENCH) == set(run.ALL_PARTS)
    monkeypatch.undo()
    assert run.Bench().configurations == tuple(setups.SETUPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifra"], "bench: unknown configuration 'cifra'; choose among cifar, tiny, vit"),
        (["--sides", "100"], "bench: sides must be multiples of 16"),
        (["-o", "bench.txt"], "bench: the results go into a .json file, got 'bench.txt'"),
        (["-o", "nowhere/b.json"], "bench: cannot write nowhere/b.json: there is no folder"),
        (["--rounds", "0"], "--rounds: expected a whole number of 1 or more, got '0'"),
    ],
)
def test_a_wrong_command_is_one_line_before_any_work(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.Bench, "run", lambda bench: None)
    try:
        status = cli.main(["bench", *arguments])
    except SystemExit as leaving:
        status = leaving.code
    out, err = capsys.readouterr()
    assert status == 2 and out == "" and err.count("\n") == 1 and message in err


def test_importing_minswin_leaves_the_bench_out():
    program = "import sys, minswin; print(*(name for name in sys.modules if 'bench' in name))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


# ── beside busy processes ────────────────────────────────────────────────────────────────────────


def test_a_step_is_timed_alone_and_beside_processes_that_count(monkeypatch):
    times, running = iter([1.0, 3.0, 2.0, 20.0, 30.0, 10.0]), []

    def seconds(step):
        running.append(len(started))
        return next(times)

    started: list[Any] = []

    class Process:
        def __init__(self, command):
            started.append(command)

        def kill(self):
            started.pop()

        def wait(self):
            pass

    monkeypatch.setitem(setups.SETUPS, "small", SMALL)
    monkeypatch.setattr(busy, "SETUPS", setups.SETUPS)
    monkeypatch.setattr(busy, "seconds", seconds)
    monkeypatch.setattr(busy.subprocess, "Popen", Process)
    measured = busy._times("small", 2, "ours")
    assert measured == ("ours", 2.0, 20.0) and running == [0, 0, 0, 2, 2, 2] and not started
    table = report.busy_table("small", [measured])
    assert "beside two busy ones" in table and "10.0" in table

"""The race of `minswin bench`: turns, ratios, contenders, its table and its picture."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from bench_results import RESULT, SMALL, lap

from minswin.bench import contenders, peers, pictures, race, report, run, setups
from minswin.bench.children import Failed
from minswin.bench.clock import spread
from minswin.bench.setups import Setup
from minswin.bench.sweep import Point
from minswin.models.blank import BLANK


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


def test_a_race_of_our_own_contenders_measures_both():
    lines = []
    found = race.race(("minswin", "reference"), SMALL, threads=1, rounds=1, tell=lines.append)
    assert list(found) == ["minswin", "reference"] and len(lines) == 4
    parameters = setups.our_model(SMALL, np.random.default_rng(0)).parameter_count()
    for measured in found.values():
        assert measured.start.parameters == parameters
        assert 0 < measured.start.imported <= measured.start.peak
        assert measured.train.median > 0 and measured.infer.median > 0


def test_a_race_in_bfloat16_rounds_what_we_multiply_and_says_so():
    exact, short = (
        contenders.build("minswin", SMALL._replace(precision=precision), 1).infer()
        for precision in ("float32", "bfloat16")
    )
    off = np.linalg.norm(short - exact) / np.linalg.norm(exact)
    assert 1e-4 < off < 0.1
    setup = SMALL._replace(precision="bfloat16")
    assert report.race_table(setup, RESULT, 2, 1).splitlines()[0].endswith(" 1 round, bfloat16")


def test_a_bench_gives_its_race_the_precision(monkeypatch):
    seen = []
    monkeypatch.setattr(run, "race", lambda names, setup, **_: seen.append(setup) or RESULT)
    run.Bench(["cifar"], parts=["race"], precision="bfloat16").race()
    assert [setup.precision for setup in seen] == ["bfloat16"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float16"}, "must be float32 or bfloat16, got 'float16'"),
        ({"precision": "bfloat16"}, "is of the race alone"),
        ({"precision": "bfloat16", "parts": ["race"], "contenders": ["reference"]}, "have none"),
    ],
)
def test_a_precision_that_a_part_has_not_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        run.Bench(**settings)


# ── contenders ────────────────────────────────────────────────────────────────────────────────────


def test_another_number_of_parameters_is_another_model():
    ours = lap(1, 1, 1, parameters=1234).start
    race.same_parameters(ours._replace(peak=9), ours)
    with pytest.raises(Failed, match="it has 1,235 parameters, minswin has 1,234"):
        race.same_parameters(ours._replace(parameters=1235), ours)


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


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────


def test_the_race_is_a_table_with_reasons_below():
    lines = report.race_table(SMALL, RESULT, 2, 1).splitlines()
    assert lines[0] == "swin_shapes, batch 4, 32×32, 7 parameters, 2 threads, 1 round, float32"
    assert lines[2].split()[0] == "contender" and set(lines[3]) == {"─"}
    timm = "timm 750 ms (750–750) 1.50 400 ms (400–400) 2.00 900 MiB 3.00 300 MiB"
    assert lines[5].split() == timm.split()
    assert lines[8] == (
        "against the best peer of each column: training 1.50 (timm), "
        "inference 1.25 (transformers-fused), memory 3.00 (timm)"
    )
    assert lines[-2].startswith("timm-fused did not run: ImportError")
    assert lines[-1] == 'For the comparison with PyTorch: pip install "minswin[parity]"'


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

"""What changes step by step, the rate and the averaged weights, follows its formula."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_parameters import SHAPES, make_parameters

from minswin.training.ema import WeightAverage
from minswin.training.optimizers import noam, warmup_cosine

# ── the rate ─────────────────────────────────────────────────────────────────────────────────────

settings = st.integers(2, 300).flatmap(
    lambda steps: st.fixed_dictionaries(
        {
            "steps": st.just(steps),
            "warmup": st.integers(0, steps - 1),
            "base": st.floats(1e-3, 1.0),
            "start": st.floats(0, 1e-3),
            "final": st.floats(0, 1e-3),
        }
    )
)


@given(settings)
def test_the_rate_rises_to_base_at_the_end_of_the_warmup_and_then_only_falls(s):
    rates = [warmup_cosine(t, **s) for t in range(s["steps"] + 1)]
    warmup = s["warmup"]
    assert rates[warmup] == s["base"]
    assert warmup == 0 or rates[0] == s["start"]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(rates[: warmup + 1]))
    falling = rates[warmup:]
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(falling))
    assert rates[-1] == s["final"] == warmup_cosine(s["steps"] + 5, **s)


@given(settings)
def test_the_cosine_is_symmetric_about_its_middle(s):
    span = s["steps"] - s["warmup"]
    for k in range(span + 1):
        pair = [warmup_cosine(t, **s) for t in (s["warmup"] + k, s["steps"] - k)]
        assert math.isclose(sum(pair), s["base"] + s["final"], rel_tol=1e-9)


def test_the_warmup_is_a_straight_line():
    s = {"steps": 50, "warmup": 8, "base": 0.9, "start": 0.1, "final": 0.0}
    assert [warmup_cosine(t, **s) for t in range(9)] == pytest.approx(np.linspace(0.1, 0.9, 9))


def test_a_bad_schedule_is_refused():
    s = {"base": 1.0, "start": 0.0, "final": 0.0}
    with pytest.raises(ValueError, match="got warmup=6 and steps=5"):
        warmup_cosine(0, steps=5, warmup=6, **s)
    with pytest.raises(ValueError, match="step counts from 0, got -1"):
        warmup_cosine(-1, steps=5, warmup=2, **s)


# ── averaged weights ─────────────────────────────────────────────────────────────────────────────


def test_the_average_follows_its_recurrence_and_leaves_the_weights_alone():
    rng = np.random.default_rng(9)
    parameters = make_parameters(rng)
    average = WeightAverage(parameters.items(), 0.4)
    want = float(parameters["layer.bias"].data[2])
    for t in range(1, 30):
        for p in parameters.values():
            p.data += rng.standard_normal(p.shape)
        now = float(parameters["layer.bias"].data[2])
        d = min(0.4, (1 + t) / (10 + t))
        want = d * want + (1 - d) * now
        average.update()
        assert abs(average.state_dict()["layer.bias"][2] - want) < 1e-12
        assert parameters["layer.bias"].data[2] == now


def test_the_averaged_weights_are_lent_in_place_and_taken_back_even_after_an_error():
    parameters = make_parameters(np.random.default_rng(10))
    average = WeightAverage(parameters.items(), 0.9)
    arrays = {n: p.data for n, p in parameters.items()}
    for p in parameters.values():
        p.data += 1
    own = {n: a.copy() for n, a in arrays.items()}
    with pytest.raises(KeyError), average.applied():
        for n, p in parameters.items():
            assert p.data is arrays[n]
            assert np.array_equal(p.data, average.average[n])
            assert not np.array_equal(p.data, own[n])
        raise KeyError
    assert all(np.array_equal(arrays[n], own[n]) for n in SHAPES)


def test_an_average_continues_from_its_saved_state():
    parameters = make_parameters(np.random.default_rng(11))
    average = WeightAverage(parameters.items(), 0.9)
    for p in parameters.values():
        p.data += 1
    average.update()
    saved = {n: a.copy() for n, a in average.state_dict().items()}
    again = WeightAverage(parameters.items(), 0.9)
    again.load_state_dict(saved, step=average.step)
    for each in (average, again):
        each.update()
    assert all(np.array_equal(average.average[n], again.average[n]) for n in SHAPES)
    with pytest.raises(ValueError, match="the saved average does not fit: 1 names"):
        again.load_state_dict({n: saved[n] for n in list(saved)[1:]}, step=1)


# ── bounds of both ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "call",
    [
        lambda: warmup_cosine(0, steps=2, warmup=1, base=-1, start=0, final=0),
        lambda: warmup_cosine(0, steps=2, warmup=1, base=math.nan, start=0, final=0),
        lambda: warmup_cosine(math.nan, steps=2, warmup=1, base=1, start=0, final=0),
        lambda: noam(0, channels=4, factor=0.0),
        lambda: noam(math.nan, channels=4),
        lambda: noam(0, channels=4, warmup=math.nan),
        lambda: WeightAverage([("p", SimpleNamespace(data=np.ones(1)))], math.nan),
    ],
)
def test_a_schedule_or_average_refuses_what_would_turn_it_round(call):
    with pytest.raises(ValueError, match=r"must|counts from 0"):
        call()


def test_bounds_of_schedules_and_of_the_average_are_exact() -> None:
    rates = {"base": 0.5, "start": 0.25, "final": 0.0}
    assert warmup_cosine(0, warmup=0, steps=1, **rates) == 0.5  # a run of one step
    assert warmup_cosine(0, warmup=1, steps=1, **rates) == 0.25
    for decay in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"decay must lie between 0 and 1, got {decay}"):
            WeightAverage([], decay)
    with pytest.raises(ValueError, match="noam: factor must be"):
        noam(1, channels=4, factor=-1.0)
    with pytest.raises(ValueError, match="noam: warmup and channels must be"):
        noam(1, channels=4, warmup=0)

"""What is no number, of another shape, missing or too many is a finding or does no harm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from compared import first, theirs, truth

from minswin.crosscheck import folder, recipe
from minswin.crosscheck.align import losses_of
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.folder import builder
from minswin.crosscheck.observations import REORDERED
from minswin.crosscheck.trace import trace

# ── no numbers ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_findings(bad: float) -> None:
    spoilt = theirs()
    spoilt["layers.1.blocks.0.residual"][2, 3, 1, 0] = bad
    found = first(compare(truth(), spoilt))
    assert (found.verdict, found.worst) == ("not finite", (2, 3, 1, 0))
    assert found.note.startswith("1 of ")


def test_minus_infinity_may_stand_for_minus_100_in_a_mask() -> None:
    other = theirs()
    for name in other:
        if name.endswith(("mask", "logits")) and "cotangent" not in name:
            other[name][other[name] < -50] = -np.inf
    found = compare(truth(), other)
    assert found.passed
    assert any("lower still" in f.note for f in found.findings)
    other["layers.0.blocks.1.attn.mask"][0, 0, 0, 0] = -np.inf  # a pair that may see each other
    assert first(compare(truth(), other)).verdict == "not finite"


def test_a_mask_of_minus_infinity_in_another_order_of_windows_is_told() -> None:
    mask = truth().arrays["float32"][name := "layers.0.blocks.1.attn.mask"]
    found = compare(truth(), {**theirs(), name: np.where(mask < -50, -np.inf, mask)[::-1]})
    assert (first(found).name, first(found).verdict) == (name, "not finite")
    diagnosis = diagnose(truth(), found, seconds=0.1)
    assert diagnosis is not None and REORDERED in diagnosis.observations


def test_a_gradient_that_is_no_number_is_a_finding_where_a_mask_may_be_minus_infinity() -> None:
    name = "cotangent/layers.0.blocks.1.attn.logits"
    found = compare(truth(), {**theirs(), name: np.full_like(theirs()[name], -np.inf)})
    assert (first(found).name, first(found).verdict) == (name, "not finite")
    diagnosis = diagnose(truth(), found, seconds=0.1)
    assert diagnosis is not None and not diagnosis.causes


def test_where_the_truth_is_no_number_nothing_is_right() -> None:
    found = folder.Trace(truth().header, dict(truth().steps), {})
    found.arrays["float64"] = {
        **truth().arrays["float64"],
        "cotangent/norm.bias": np.full(24, np.nan),
    }
    theirs = {"head": truth().arrays["float32"]["head"], "cotangent/norm.bias": np.ones(24, "f4")}
    assert first(compare(found, theirs)).name == "cotangent/norm.bias"


# ── other shapes, other orders ───────────────────────────────────────────────────────────────────


def test_wrong_losses_behind_a_tensor_in_another_order_are_no_value_of_the_pass() -> None:
    name, ours = "layers.0.blocks.0.norm2", losses_of(truth(), "float64")["losses"]
    found = compare(truth(), {name: theirs()[name][:, ::-1], "losses": ours + 1})
    assert (first(found).name, first(found).verdict) == (name, "wrong")
    diagnosis = diagnose(truth(), found, seconds=0.1)
    assert diagnosis is not None and REORDERED in diagnosis.observations


def test_another_shape_is_a_finding() -> None:
    spoilt = theirs()
    spoilt["norm"] = spoilt["norm"][:, :6]
    found = first(compare(truth(), spoilt))
    assert found.verdict == "shape"
    assert found.note == "expected (3, 7, 5, 24), got (3, 6, 5, 24) float32"


@pytest.mark.parametrize(
    ("name", "verdict", "change"),
    [
        ("labels", "wrong", lambda x: x + 5),  # no classes, as where they begin at 1
        ("image", "shape", lambda x: x[:, :2]),
        ("head.weight", "shape", lambda x: x[:2]),
        ("head.weight", "wrong", lambda x: np.sign(x).astype(int)),
    ],
)
def test_what_a_pass_starts_from_may_be_wrong(name: str, verdict: str, change: Any) -> None:
    spoilt = {n: x for n, x in theirs().items() if n in (name, "head")}
    found = compare(truth(), {**spoilt, name: change(spoilt.get(name, truth().steps[name].value))})
    assert (first(found).name, first(found).verdict) == (name, verdict)
    diagnosis = diagnose(truth(), found, seconds=0.1)
    assert diagnosis is not None and not diagnosis.causes


@pytest.mark.parametrize(
    "name", ["cotangent/head.bias", "cotangent/norm", "after/head.bias", "losses"]
)
def test_a_gradient_or_what_was_trained_of_another_shape_is_a_finding(name: str) -> None:
    """As a gradient of a bias that was not summed over the batch."""
    spoilt = {**theirs(), "losses": losses_of(truth(), "float64")["losses"]}
    spoilt[name] = np.stack([spoilt[name]] * 3)
    found = compare(truth(), spoilt)
    assert (first(found).name, first(found).verdict) == (name, "shape")
    diagnosis = diagnose(truth(), found, seconds=0.1)
    assert diagnosis is not None and diagnosis.claim == "none is possible here; see 'how' above"


def test_the_weights_that_fit_tell_where_others_have_another_shape() -> None:
    spoilt = theirs()
    spoilt["after/head.weight"] = spoilt["after/head.weight"][:2]
    spoilt["after/head.bias"] = spoilt["after/head.bias"] + 1
    found = compare(truth(), spoilt)
    found.first = next(f for f in found.findings if f.name == "after/head.bias")
    diagnosis = diagnose(truth(), found, seconds=0.1)
    assert diagnosis is not None and not diagnosis.causes


def test_tensors_that_are_missing_or_empty_or_too_many_do_no_harm() -> None:
    other = {n: x for n, x in theirs().items() if n in ("image", "head", "loss")}
    other |= {"nothing": np.zeros((0, 3)), "my_counter": np.array(7)}
    found = compare(truth(), other)
    assert found.passed and found.unused == ["nothing", "my_counter"]
    assert sum(f.verdict != "missing" for f in found.findings) == 3
    other["head"] = np.zeros((0, 5), "f4")
    assert first(compare(truth(), other)).verdict == "shape"


def test_a_count_that_came_as_a_floating_number_is_a_count() -> None:
    settings = {"depths": (1, 1), "img_size": 32, "num_classes": 3}
    ours = trace(
        builder("resnet18", settings), recipe.images(2, 3, (32, 32)), np.zeros(2, int), grad=False
    )
    other = {n: x.astype(np.float32) for n, x in ours.arrays["float32"].items()}
    assert any(n.endswith("num_batches_tracked") for n in other)
    assert compare(ours, other).passed

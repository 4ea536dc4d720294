"""A right port is judged by what it computed in, whatever its files were widened to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import score
from hypothesis import given
from hypothesis import strategies as st

from minswin import kernels, ops
from minswin.autograd import Tensor
from minswin.crosscheck import doubts, recipe
from minswin.crosscheck.compare import GOOD, Comparison, compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.doubts import larger
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.held import model_of
from minswin.crosscheck.precision import (
    BFLOAT16,
    DOUBLE,
    FLOAT16,
    SINGLE,
    Precision,
    draws,
    precisions,
    stored,
)
from minswin.crosscheck.recording import Step
from minswin.crosscheck.search import Clock
from minswin.crosscheck.trace import record_pass, trace
from minswin.layers import windows_v2
from minswin.layers.base import Layer
from minswin.models import create_model

Arrays = dict[str, np.ndarray]
HALVES = pytest.mark.parametrize("half", [FLOAT16, BFLOAT16], ids=lambda p: p.name)


def single() -> Arrays:
    return {n: np.array(x) for n, x in score.truth("trained").arrays["float32"].items()}


SMALL = {
    "img_size": (14, 10), "patch_size": 2, "embed_dim": 12, "num_heads": (2,),
    "window_size": 4, "num_classes": 5,
}  # fmt: skip


@cache
def small(blocks: int = 2) -> Trace:
    """A truth of one stage, its map padded and shifted: each likely mistake is tried on it."""
    settings = {**SMALL, "depths": (blocks,)}

    def build(dtype: Any) -> Layer:
        return create_model("swin_tiny", **settings, rng=np.random.default_rng(0), dtype=dtype)

    images = recipe.images(2, 3, SMALL["img_size"])
    return trace(build, images, recipe.labels(2, SMALL["num_classes"]), grad=False)


def one_block() -> Trace:
    return small(1)


def square() -> Trace:
    """The truth of two stages of the planted faults."""
    return score.truth("square")


PRODUCTS = ("Conv2d", "Linear", "fc1", "fc2", "scores", "heads")


@cache
def port(
    half: Precision, other: Precision | None = None, truth_of: Callable[[], Trace] = square
) -> Arrays:
    """Values of a right port in half precision, every step rounded, as hooks widen them.

    other: of all steps but products
    """
    truth, values = truth_of(), {}

    def rounded(step: Step, _: Any = None) -> np.ndarray:
        own = half if other is None or step.kind in PRODUCTS else other
        value = own.round(step.value) if step.value.dtype.kind == "f" else step.value
        values[step.name] = value
        return value

    steps = truth.steps
    weights = {n: rounded(step) for n, step in steps.items() if step.op == "parameter"}
    model = model_of(truth, "float64", weights)
    given = rounded(steps["image"]), rounded(steps["labels"])
    with kernels.using("reference"):
        record_pass(model, *given, grad=False, hold=rounded)
    return {n: x.astype("f4") if x.dtype.kind == "f" else x for n, x in values.items()}


def first(found: Comparison) -> Any:
    assert found.first is not None
    return found.first


# ── single numbers ───────────────────────────────────────────────────────────────────────────────


def test_a_loss_that_python_holds_in_float64_is_judged_in_what_it_came_from() -> None:
    truth, theirs = score.truth("trained"), single()
    exact = float(truth.arrays["float64"]["loss"])
    theirs["loss"] = np.array(exact * (1 + 3e-8))  # half a unit of float32, and no number of it
    assert compare(truth, theirs).passed
    theirs["loss"] = np.array(exact * (1 + 1e-4))
    assert first(compare(truth, theirs)).name == "loss"
    wide = {n: np.array(x) for n, x in truth.arrays["float64"].items()}
    wide["loss"] = np.array(exact * (1 + 3e-8))
    assert first(compare(truth, wide)).name == "loss"


def test_a_list_of_losses_in_float64_is_judged_as_the_rest() -> None:
    truth, theirs = score.truth("trained"), single()
    losses = np.array(truth.header["losses"]["float32"]) * (1 + 1e-8)
    assert stored(losses) == DOUBLE
    assert compare(truth, {**theirs, "losses": losses}).passed
    assert first(compare(truth, {**theirs, "losses": losses * (1 + 1e-3)})).name == "losses"


# ── half precision ───────────────────────────────────────────────────────────────────────────────


@HALVES
def test_a_right_port_in_half_precision_is_right_though_hooks_widened_it(half: Precision) -> None:
    found = compare(one_block(), port(half, truth_of=one_block))
    assert found.passed, found.first
    assert {f.verdict for f in found.findings} <= {*GOOD, "missing"}
    assert {p.name for n, p in found.precision.items() if n in ("head", "image")} == {half.name}
    assert next(f for f in found.findings if f.name == "head").note == f"numbers of {half.name}"


@pytest.mark.parametrize(
    ("half", "kept"),
    [
        pytest.param(half, kept, id=f"{kept}-{half.name}", marks=[pytest.mark.long] * (i % 4 > 0))
        for half, shift in ((FLOAT16, 0), (BFLOAT16, 2))
        for i, kept in enumerate(("output", "logits", "gelu", "norm2"), shift)
    ],
)
def test_a_few_tensors_of_it_are_right_too(half: Precision, kept: str) -> None:
    every = port(half, truth_of=one_block)
    theirs = {n: x for n, x in every.items() if n.endswith(kept) or n in ("image", "head")}
    assert compare(one_block(), theirs).passed


def fourteen() -> Trace:
    """A truth of one block whose two images have seven logits each."""
    settings = {**SMALL, "depths": (1,), "num_classes": 7}

    def build(dtype: Any) -> Layer:
        return create_model("swin_tiny", **settings, rng=np.random.default_rng(0), dtype=dtype)

    images = recipe.images(2, 3, SMALL["img_size"])
    return trace(build, images, recipe.labels(2, 7), grad=False)


def test_a_few_logits_are_enough_to_see_that_they_are_of_half_precision() -> None:
    """By chance fourteen numbers of float32 are none of float16."""
    truth = fourteen()
    theirs = {"head": port(FLOAT16, truth_of=lambda: truth)["head"]}
    found = compare(truth, theirs)
    assert theirs["head"].dtype == np.float32 and theirs["head"].size == 14
    assert found.passed and found.doubts is not None and found.precision["head"] == FLOAT16


def test_two_equal_logits_do_not_hide_half_precision() -> None:
    """Ten numbers of bfloat16 may well hold one twice, as ten of float32 do not."""
    exact = np.random.default_rng(0).standard_normal((2, 5))
    exact[1, 1] = exact[0, 0] * (1 + 2.0**-12)
    theirs = {"head": BFLOAT16.round(exact).astype("f4")}
    assert len(np.unique(theirs["head"])) == 9
    found, _ = precisions(theirs, {"head": exact}, {"head"}, set())
    assert found["head"] == BFLOAT16


def test_many_numbers_show_an_error_that_few_may_have_by_chance() -> None:
    every, name = port(BFLOAT16, truth_of=one_block), "layers.0.blocks.0.mlp.gelu"
    rng = np.random.default_rng(0)
    once_more = 1 + 0.75 * BFLOAT16.u * rng.standard_normal(every[name].shape)
    coarse = {**every, name: BFLOAT16.round(every[name] * once_more).astype("f4")}
    theirs = {n: coarse[n] for n in (name, name.replace("gelu", "fc1"), "image", "head")}
    found = compare(one_block(), theirs)
    assert found.doubts is not None and first(found).name == name
    assert larger(theirs[name].size) < found.doubts.sizes[name] < larger(14)


def test_a_draw_rounds_what_products_take_as_autocast_does() -> None:
    """A number far below those that it is a sum of is mostly what these were rounded by."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 8)), rng.standard_normal((5, 8))
    with draws(FLOAT16)[1]():
        y = ops.linear(Tensor(x), Tensor(w), None).data
    assert np.array_equal(y, FLOAT16.round(FLOAT16.round(x) @ FLOAT16.round(w).T))
    assert not np.array_equal(y, FLOAT16.round(x @ w.T))


HIDDEN = ("scores", "proj", "heads")


@pytest.mark.parametrize(
    ("half", "truth_of", "hidden"),
    [
        pytest.param(
            half, truth_of, hidden,
            id=f"{truth_of.__name__}-{half.name}-{'half' if hidden else 'all'}",
            marks=[pytest.mark.long] * (truth_of is small or bool(hidden) == (half is BFLOAT16)),
        )
        for half, truth_of, hidden in product((FLOAT16, BFLOAT16), (one_block, small), (HIDDEN, ()))
    ],
)  # fmt: skip
def test_a_port_of_mixed_precision_is_right_though_half_of_it_is_not_handed_out(
    half: Precision, truth_of: Callable[[], Trace], hidden: tuple[str, ...]
) -> None:
    """What is in float32 has gone through products in half precision; these may be few."""
    truth, theirs = truth_of(), port(half, SINGLE, truth_of)
    kept = {n: x for n, x in theirs.items() if not n.endswith(hidden)}
    found = compare(truth, kept)
    assert found.passed, found.first
    assert found.precision["layers.0.blocks.0.attn.logits"] == SINGLE
    name = "layers.0.blocks.0.attn.logits"
    assert first(compare(truth, {**kept, name: kept[name] * 2})).name == name


@HALVES
@pytest.mark.parametrize("name", ["attn.scores", "mlp.gelu", "norm2", "output"])
def test_a_mistake_of_a_tenth_shows_in_half_precision(half: Precision, name: str) -> None:
    name = f"layers.0.blocks.1.{name}"
    theirs = {**port(half), name: half.round(port(half)[name] * 1.1).astype("f4")}
    assert first(compare(score.truth("square"), theirs)).name == name


@cache
def second_version() -> Trace:
    settings = {**SMALL, "img_size": (24, 32), "depths": (2,), "window_size": (3, 4)}

    def build(dtype: Any) -> Layer:
        return create_model("swinv2_cifar", **settings, rng=np.random.default_rng(0), dtype=dtype)

    images = recipe.images(2, 3, settings["img_size"])
    return trace(build, images, recipe.labels(2, SMALL["num_classes"]), grad=False)


def test_a_mistake_that_leaves_more_than_rounding_is_not_the_name(monkeypatch: Any) -> None:
    """A bias of 1 at most is nearly none: not the same in bfloat16, but near it."""
    truth = second_version()
    with monkeypatch.context() as changed:
        changed.setattr(windows_v2, "BIAS", 1.0)
        every = port(BFLOAT16, truth_of=second_version)
    theirs = {n: x for n, x in every.items() if n.endswith(("norm1", "proj", "output", "head"))}
    told = diagnose(truth, compare(truth, theirs))
    assert told is not None and told.named and "BIAS" in told.causes[0].diff, told.causes


def test_one_step_in_half_precision_is_a_finding_in_a_port_in_float32() -> None:
    truth, theirs = score.truth("square"), dict(score.truth("square").arrays["float32"])
    name = "layers.0.blocks.1.mlp.gelu"
    theirs[name] = theirs[name].astype("f2").astype("f4")
    assert first(compare(truth, theirs)).name == name


def test_weights_that_were_rounded_are_a_finding_in_a_port_in_float32() -> None:
    truth, theirs = score.truth("square"), dict(score.truth("square").arrays["float32"])
    theirs["head.weight"] = theirs["head.weight"].astype("f2").astype("f4")
    assert first(compare(truth, theirs)).name == "head.weight"


def test_numbers_that_are_exact_in_any_precision_say_nothing_about_it() -> None:
    counted = np.arange(120, dtype="f4").reshape(4, 30)
    noise = np.random.default_rng(0).standard_normal((4, 30))
    theirs = {"a": counted, "b": BFLOAT16.round(noise[:1, :3]).astype("f4")}
    found, _ = precisions(theirs, {"a": counted * 1.0, "b": noise[:1, :3]}, {"a", "b"}, set())
    assert set(found.values()) == {SINGLE}  # whole numbers, and too few
    theirs["b"] = BFLOAT16.round(noise).astype("f4")
    found, _ = precisions(theirs, {"a": counted * 1.0, "b": noise}, {"a", "b"}, set())
    assert found["b"] == BFLOAT16


@given(st.integers(0, 2**32 - 1))
def test_rounding_to_bfloat16_gives_the_nearest_number_of_it(bits: int) -> None:
    x = np.array([bits], np.uint32).view("f4").astype("f8")
    if not np.isfinite(x).all() or abs(x[0]) > 3e38:
        return
    y = BFLOAT16.round(x)
    assert BFLOAT16.holds(y) and (y.astype("f4").view(np.uint32) & 0xFFFF == 0).all()
    upper = y.astype("f4").view(np.uint32) >> 16
    for step in (-1, 1):
        other = (((upper.astype(np.int64) + step) << 16) & 0xFFFFFFFF).astype(np.uint32).view("f4")
        if np.isfinite(other).all():
            assert abs(x - y)[0] <= abs(x - other.astype("f8"))[0]
    assert FLOAT16.round(x.clip(-6e4, 6e4)) == x.clip(-6e4, 6e4).astype("f2")


# ── pytorch's hooks ──────────────────────────────────────────────────────────────────────────────


def test_hooks_keep_float16_and_number_a_second_call_from_2() -> None:
    torch = pytest.importorskip("torch")
    from minswin.crosscheck.torch import keep

    class Twice(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.act = torch.nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.act(self.act(x) + 1) * 2

    model = Twice()
    with keep(model) as seen:
        model(torch.ones(2, 3, dtype=torch.float16))
    assert seen.arrays.keys() == {"act", "act#2", "output"}
    assert {x.dtype for x in seen.arrays.values()} == {np.dtype("f2")}
    with keep(model) as seen:
        model(torch.ones(2, 3, dtype=torch.bfloat16))
    assert {x.dtype for x in seen.arrays.values()} == {np.dtype("f4")}


def test_of_a_role_the_tensor_is_told_whose_error_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doubts, "_edits", lambda search: [])
    sizes = {"first": 1.1, "second": 9.0}
    spots: Any = {
        n: SimpleNamespace(search=None, ratio=size, error=np.ones(50)) for n, size in sizes.items()
    }
    found = doubts.Doubts()
    doubts._examine("role", spots, found, Clock(1), set())
    assert found.wrong == {"second": []} and found.sizes == sizes

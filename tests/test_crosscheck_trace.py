"""A trace tells every step of a pass, and changes none."""

from __future__ import annotations

import ast
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score
from tiny_models import batch, tiny_model

from minswin import composites, kernels, ops
from minswin.around import around
from minswin.autograd import Tensor
from minswin.crosscheck import commands, recipe
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.held import follow
from minswin.crosscheck.layouts import windows_of
from minswin.crosscheck.observations import describe
from minswin.crosscheck.precision import DOUBLE
from minswin.crosscheck.recording import GIVEN, Recording
from minswin.crosscheck.trace import loss, record_pass, trace
from minswin.layers import Layer, WindowAttention
from minswin.models import create_model

ROOT = Path(commands.__file__).parents[2]
SMALL = {"embed_dim": 6, "depths": (2, 1), "num_heads": (2, 3), "patch_size": 2, "num_classes": 5}


def small(dtype: Any, **settings: Any) -> Any:
    """A small Swin with the weights of the recipe."""
    own = {**SMALL, **settings}
    model = create_model("swin_tiny", **own, rng=np.random.default_rng(0), dtype=dtype).eval()
    model.load_state_dict(recipe.weights(model.state_dict()))
    return model


def recorded(dtype: Any = np.float64, batch: int = 3, **settings: Any) -> Any:
    """The recording of a small Swin on the recipe's images."""
    model = small(dtype, **settings)
    x = recipe.images(batch, 3, model.img_size, dtype)
    with kernels.using("reference"):
        return record_pass(model, x, recipe.labels(batch, 5))


# ── it changes nothing ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_recording_changes_no_bit_of_forward_and_gradients(backend: str) -> None:
    model, (x, labels) = tiny_model(), batch(3)

    def run() -> list[np.ndarray]:
        model.zero_grad()
        result = loss(model, Tensor(x), labels)
        result.backward()
        return [result.data, *(p.grad for p in model.parameters())]

    with kernels.using(backend):
        plain = run()
        with around(record := Recording(model)):
            watched = run()
        after = run()
    assert len(record.steps) > len(model.state_dict())
    for a, b, c in zip(plain, watched, after, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)


def test_explaining_attention_changes_rounding_alone() -> None:
    model, (x, labels) = tiny_model(), batch(3)
    with kernels.using("reference"):
        with around(record := Recording(model)):
            loss(model, Tensor(x), labels).backward()
        plain, told = record.steps, record_pass(model, x, labels).steps
    assert "layers.0.blocks.0.attn.logits" in told and told.keys() > plain.keys()
    for name, step in plain.items():
        np.testing.assert_allclose(told[name].value, step.value, rtol=1e-12, atol=1e-14)
        if step.cotangent is not None:
            np.testing.assert_allclose(told[name].cotangent, step.cotangent, rtol=1e-9, atol=1e-14)


# ── what a step tells ────────────────────────────────────────────────────────────────────────────


def test_every_step_of_swin_has_axes_a_formula_and_a_line_of_its_file() -> None:
    steps = score.truth("square").steps
    assert len(steps) > 150
    for step in steps.values():
        if step.op == "parameter":
            continue
        assert len(step.axes) == step.value.ndim, step.name
        if step.op == "input":
            continue
        assert step.formula and step.formula != step.op, step.name
        file, number = step.line.rsplit(":", 1)
        line = (ROOT / file).read_text("utf-8").splitlines()[int(number) - 1]
        assert step.code and line.strip() == step.code, step.name


@pytest.mark.parametrize("model", ["swin_tiny", "swinv2_cifar"])
def test_what_lies_in_windows_knows_the_map_that_it_was_cut_from(model: str) -> None:
    tiny = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 6, "depths": (2,)}
    built = create_model(model, **tiny, num_heads=(2,), rng=np.random.default_rng(0))
    images = recipe.images(1, 3, (16, 16), np.float32)
    with kernels.using("reference"):
        steps = record_pass(built.eval(), images, recipe.labels(1, 5), grad=False).steps
    cut = [step for step in steps.values() if {"image", "window"} <= set(step.axes)]
    assert {"scores", "probabilities", "heads"} <= {step.kind for step in cut}
    for step in cut:
        windows = windows_of(steps)[step.name]
        assert (windows.grid, windows.window) == ((8, 8), (4, 4)), step.name
        where = describe(step, np.zeros(len(step.axes), int), steps)
        shifted = "rows 4…5" if any(windows.shift) else "rows 0…1"
        assert "window (0, 0)" in where and shifted in where, where


def with_other_variables(function: Any) -> Edit:
    """An edit that calls the variables of a function otherwise, but for its parameters."""
    text = Text(function)
    names = [n for n in ast.walk(text.tree) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    own -= {a.arg for n in ast.walk(text.tree) if isinstance(n, ast.arguments) for a in n.args}
    changes = [(*text.span(n), f"{n.id}_of_mine") for n in names if n.id in own]
    assert changes, text.name
    return Edit(text, changes, "other variables", 0)


def test_no_variable_of_a_text_is_known_by_its_name() -> None:
    cut = composites.shifted_window_attention.function
    texts = (WindowAttention.__call__, cut, composites.split_heads, composites.spelled_out.function)
    small = {"batch": 1, "img_size": (18, 10), "window_size": 4}
    right = recorded(**small).steps
    with ExitStack() as stack:
        for function in texts:
            stack.enter_context(with_other_variables(function).planted())
        renamed = recorded(**small).steps
    assert list(renamed) == list(right) and windows_of(renamed) == windows_of(right)
    for name, step in right.items():
        assert (step.inputs, step.axes) == (renamed[name].inputs, renamed[name].axes), name
        assert np.array_equal(step.value, renamed[name].value), name


class Inner(Layer):
    def __call__(me, x: Tensor) -> Tensor:
        return ops.relu(x)


class Outer(Layer):
    def __init__(self) -> None:
        self.inner = Inner()

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x).mean(axis=(2, 3))


def test_a_layer_is_known_whatever_its_method_calls_it() -> None:
    steps = record_pass(Outer(), np.ones((1, 3, 2, 2)), recipe.labels(1, 3)).steps
    assert [name for name, step in steps.items() if step.op not in GIVEN] == [
        "inner.relu", "mean", "loss",
    ]  # fmt: skip


CASES = {
    "divides": {"img_size": (32, 24), "window_size": 4, "batch": 2},
    "padded": {"img_size": (22, 18), "window_size": 4},
    "wide windows": {"img_size": (24, 34), "window_size": (3, 4)},
    "window as large as the map": {"img_size": (8, 12), "window_size": 4},
    "positions": {"img_size": (16, 24), "window_size": 3, "ape": True},
    "no bias of qkv": {"img_size": (16, 24), "window_size": 3, "qkv_bias": False},
}


@pytest.mark.parametrize("case", CASES)
def test_a_pass_on_its_own_tensors_gives_every_step_again(case: str) -> None:
    settings = {"batch": 3, **CASES[case]}
    images = recipe.images(settings.pop("batch"), 3, settings["img_size"])
    truth = trace(lambda dtype: small(dtype, **settings), images, recipe.labels(len(images), 5))
    arrays = {n: np.asarray(x) for n, x in truth.arrays["float64"].items()}
    found, _ = follow(truth, arrays, dict.fromkeys(arrays, DOUBLE), grad=True)
    made = {n for n, step in truth.steps.items() if step.op not in GIVEN}
    assert made <= found.keys() <= arrays.keys()
    for name, follows in found.items():
        off = np.max(np.abs(follows.value - arrays[name]), initial=0)
        assert off <= 1e-13 * max(np.abs(arrays[name]).max(), 1), name
    kinds = {step.kind for step in truth.steps.values()}
    assert {"scores", "probabilities", "neighbours", "loss", "index"} <= kinds
    assert ("mask" in kinds) == (case != "window as large as the map")


def test_the_cotangent_of_the_image_is_the_derivative_of_the_loss() -> None:
    """Along a random direction, by differences."""
    record = recorded(img_size=(22, 18), window_size=4)
    image, labels = record.steps["image"], record.steps["labels"].value
    model = small(np.float64, img_size=(22, 18), window_size=4)
    tangent = recipe.array("tangent", image.value.shape)

    def at(t: float) -> float:
        return loss(model, Tensor(image.value + t * tangent), labels).item()

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    assert np.sum(image.cotangent * tangent) == pytest.approx(slope, rel=1e-6)


OTHERS = {
    "vit_cifar": {"img_size": (8, 12), "patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 2},
    "deit_tiny_distilled": {"img_size": 32, "embed_dim": 12, "depth": 2, "num_heads": 3},
    "swinv2_cifar": {**SMALL, "img_size": (16, 24), "window_size": 4},
    "tnt_cifar": {"depth": 2},
    "resnet20": {},
}


@pytest.mark.parametrize("name", OTHERS)
def test_steps_of_other_models_have_names_of_their_own_and_finite_numbers(name: str) -> None:
    model = create_model(name, **OTHERS[name], rng=np.random.default_rng(0)).eval()
    x = recipe.images(2, 3, getattr(model, "img_size", (8, 8)), "f4")
    with kernels.using("reference"):
        record = record_pass(model, x, recipe.labels(2, 5))
    made = [s for s in record.steps.values() if s.op not in ("input", "parameter", "constant")]
    assert len(made) > 15
    for step in made:
        assert step.name and np.isfinite(step.value).all(), step.name
        assert step.cotangent is None or np.isfinite(step.cotangent).all(), step.name
    assert sum(s.cotangent is not None for s in made) > 0.8 * len(made)
    assert not [n for n in record.steps if n.startswith(".") or ".." in n]


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (
            (0, 3, 8, 8),
            (0,),
            r"image must hold one image or more, \(B, 3, H, W\), got \(0, 3, 8, 8\)",
        ),
        ((3, 8, 8), (3,), r"image must hold one image or more, \(B, 3, H, W\), got \(3, 8, 8\)"),
        ((2, 3, 8, 8), (3,), r"labels must be \(2,\), a class for each image, got \(3,\)"),
        ((2, 3, 8, 8), (2, 1), r"labels must be \(2,\), a class for each image, got \(2, 1\)"),
    ],
)
def test_a_batch_that_is_none_is_told_by_the_trace(images: Any, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"trace: {said}"):
        trace(small, np.zeros(images), np.zeros(labels, int))

"""Other spellings give what ours give, and what is one edit of them is named."""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

import numpy as np
import pytest

from minswin import kernels
from minswin.autograd import Tensor, no_grad
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.classics import _function
from minswin.crosscheck.edits.spellings import SPELLINGS
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.search import Clock, Search
from minswin.crosscheck.site import sites_of
from tests import score

PAIRS = [(name, written) for name, several in SPELLINGS.items() for written in several]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def tensor(*shape: int) -> Tensor:
    return Tensor(normal(*shape))


def adam(t: int, decay: float) -> tuple[list[Any], dict[str, Any]]:
    p, g, m, v = (normal(3, 4) for _ in range(4))
    return [p, g, m, v * v], {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "decay": decay,
                              "t": t}  # fmt: skip


def rates(step: int) -> tuple[list[Any], dict[str, Any]]:
    return [step], {"steps": 7, "warmup": 2, "base": 0.3, "start": 0.01, "final": 0.02}


CASES: dict[str, list[Any]] = {
    "reference.windows.shift_regions": [
        ([(8, 12), (4, 6), (2, 3)], {}), ([(5, 15), (5, 3), (2, 1)], {}),
        ([(9, 3), (3, 3), (1, 2)], {}),
    ],
    "reference.windows.attention_mask": [
        ([(8, 12), (4, 6), (2, 3)], {}), ([(5, 15), (5, 3), (0, 1)], {}),
        ([(9, 4), (3, 4), (1, 0), -7.0], {}), ([(4, 4), (4, 4), (2, 2)], {}),
    ],
    "reference.windows.relative_position_index": [
        ([(3, 2)], {}), ([(1, 4), (3, 7)], {}), ([(2, 2), 5], {}),
    ],
    "reference.windows.patch_merge": [([normal(2, 4, 6, 3)], {}), ([normal(1, 2, 2, 1)], {})],
    "layers.windows_v2.log_spaced": [([(3, 2), (5, 7)], {}), ([(4, 1), (4, 1)], {})],
    "composites.split_heads": [([tensor(2, 5, 24), 4], {}), ([tensor(2, 3, 5, 18), 1], {})],
    "layers.words.cut_patches": [([tensor(2, 3, 8, 6), (4, 3)], {})],
    "layers.windows_v2.cosine_attention": [
        ([*(tensor(2, 3, 5, 4) for _ in range(3)), tensor(3, 1, 1), tensor(3, 5, 5)], {})
    ],
    "layers.windows_v2.unit": [([tensor(2, 3, 5)], {})],
    "reference.normalize.layer_norm": [
        ([normal(2, 3, 5), normal(5), normal(5)], {}), ([normal(1, 7), normal(7), normal(7)],
                                                        {"eps": 1e-2}),
    ],
    "reference.updates.adamw_step": [adam(1, 0.0), adam(3, 0.05)],
    "training.optimizers.warmup_cosine": [rates(step) for step in range(9)],
    "reference.losses.cross_entropy": [
        ([normal(4, 5), np.array([1, 0, 4, 4])], {"smoothing": s}) for s in (0.0, 0.2)
    ],
}  # fmt: skip


def arrays(x: Any) -> Iterator[np.ndarray]:
    if isinstance(x, tuple):
        for part in x:
            yield from arrays(part)
    elif not callable(x) and x is not None:
        yield np.asarray(x.data if isinstance(x, Tensor) else x, np.float64)


@pytest.mark.parametrize(("name", "written"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
def test_another_spelling_gives_what_ours_gives(name: str, written: Any) -> None:
    for given, settings in CASES[name]:
        results = []
        for function in (_function(name), written):
            own = [np.array(x) if isinstance(x, np.ndarray) else x for x in given]
            with no_grad():
                results.append([*arrays((function(*own, **settings), *own))])
        for ours, other in zip(*results, strict=True):
            np.testing.assert_allclose(other, ours, rtol=1e-11, atol=1e-13)


def test_the_loss_of_the_class_has_our_derivative() -> None:
    name = "reference.losses.cross_entropy"
    for given, settings in CASES[name]:
        ours, other = (
            f(*given, **settings)[1](1.5)[0] for f in (_function(name), *SPELLINGS[name])
        )
        np.testing.assert_allclose(other, ours, rtol=1e-12, atol=1e-15)


def globals_of(code: CodeType) -> set[str]:
    inner = [globals_of(c) for c in code.co_consts if isinstance(c, CodeType)]
    own = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    return own.union(*inner)


@pytest.mark.parametrize(("name", "written"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
def test_another_spelling_has_our_arguments_and_names(name: str, written: Any) -> None:
    ours = _function(name)
    assert [*inspect.signature(written).parameters] == [*inspect.signature(ours).parameters]
    known = vars(importlib.import_module(ours.__module__)) | vars(
        importlib.import_module("builtins")
    )
    assert globals_of(written.__code__) <= known.keys()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("reference.windows.shift_regions", "slice(-Mh, -sh)", "slice(-Mh, sh)"),
        ("reference.windows.attention_mask", "mask[:, -1, :, Mw - sw :, :, : Mw - sw] = value",
         "pass"),
    ],
)  # fmt: skip
def test_one_edit_of_another_spelling_is_named(name: str, old: str, new: str) -> None:
    (written,) = SPELLINGS[name]
    text = Text(_function(name), written)
    at = text.source.index(old)
    edit = Edit(text, [(at, at + len(old), new)], "", 0)
    truth = score.truth("square")
    with edit.planted(), kernels.using("reference"):
        wrong = score.run("square", ("float32",))
    found = diagnose(truth, compare(truth, wrong.arrays["float32"]))
    assert found is not None and found.named
    assert found.causes[0].edit.text.written is written


def test_a_spelling_that_gives_something_else_here_is_left_out(monkeypatch: Any) -> None:
    """As regions by slices do where one axis is not shifted."""

    def wrong(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        *lead, N, channels = qkv.shape
        axes = (len(lead) + 1, *range(len(lead)), len(lead) + 2, len(lead), len(lead) + 3)
        return tuple(qkv.reshape(*lead, N, 3, heads, channels // 3 // heads).transpose(*axes))[::-1]

    truth, name = score.truth("square"), "layers.0.blocks.1.attn.proj"
    have = {n: x for n, x in truth.arrays["float32"].items() if n in (name, "image")}
    search = Search(sites_of(Ground(truth, have), name)[0], 2.0**-24, Clock(20))
    own = [t for t in search.site.texts if t.name == "composites.split_heads"]
    (right,) = SPELLINGS["composites.split_heads"]
    monkeypatch.setitem(SPELLINGS, "composites.split_heads", [wrong, right])
    assert [t.written for t in search.other_spellings(own)] == [right]

"""Laws: what holds for all inputs, tried on many that hypothesis draws. They need no truth of ours.

Hypothesis is part of minswin[test]; without it the laws are reported as not covered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from minswin.crosscheck import recipe
from minswin.crosscheck.adapter import Adapter
from minswin.crosscheck.probes import array_of
from minswin.crosscheck.probes.layers import BLANKS, Pair
from minswin.layers import WindowAttention

INSTALL = 'pip install "minswin[test]"'
EXAMPLES = 25
Claim = Callable[[Adapter, Any], None]


@dataclass(frozen=True)
class Law:
    """A claim about one function or two: `claim(adapter, draw)` raises AssertionError."""

    name: str
    aim: str
    needs: tuple[str, ...]
    claim: Claim
    threads: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        return self.needs[0]

    def missing(self, adapter: Adapter) -> str:
        """Why the law cannot be tried; "" if it can."""
        none = "" if find_spec("hypothesis") else f"needs hypothesis: {INSTALL}"
        return adapter.lacks(self.needs) or none


LAWS: list[Law] = []  # in the order of this file


def law(aim: str, *needs: str, threads: tuple[str, ...] = ()) -> Callable[[Claim], Claim]:
    """Decorator: a claim is a law of its name."""

    def enter(claim: Claim) -> Claim:
        LAWS.append(Law(f"law/{claim.__name__}", aim, needs, claim, threads))
        return claim

    return enter


def try_out(law: Law, adapter: Adapter) -> None:
    """Try a law on many inputs, always the same; raises what the smallest bad one raises."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    @given(st.data())
    def run(data: Any) -> None:
        law.claim(adapter, lambda least, most: data.draw(st.integers(least, most)))

    with _nothing_left_behind():
        run()


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Inside this block hypothesis keeps what it keeps elsewhere than in the working folder."""
    from hypothesis import configuration

    before = getattr(configuration, "__hypothesis_home_directory", None)
    with TemporaryDirectory() as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(before)


# ── inputs and answers ───────────────────────────────────────────────────────────────────────────


def _made(adapter: Adapter, *shape: int) -> np.ndarray:
    return recipe.array("law", shape).astype(adapter.dtype)


def _map(adapter: Adapter, draw: Any, window: Pair, batch: int = 2) -> np.ndarray:
    """A map (B, H, W, C) that the window divides."""
    return _made(adapter, batch, window[0] * draw(1, 3), window[1] * draw(1, 3), draw(1, 3))


def _say(adapter: Adapter, name: str, *arguments: Any) -> np.ndarray:
    copies = (x.copy() if isinstance(x, np.ndarray) else x for x in arguments)
    answer = adapter.functions[name](*copies)
    try:
        return array_of(answer)
    except TypeError as error:
        raise AssertionError(str(error)) from None


def _same(a: np.ndarray, b: np.ndarray, told: str) -> None:
    assert a.shape == b.shape, f"{told}: shapes {a.shape} and {b.shape}"
    assert np.array_equal(a, b), told


def _rounding(adapter: Adapter, times: int) -> float:
    return times * float(np.finfo(adapter.dtype).eps)


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────

MASKS = ("zsyOAOA/ResShift#81",)


@law(
    "a bijection for every B, H, W, C and M", "window_partition", "window_merge",
    threads=("ByChelsea/CMOS#4",),
)  # fmt: skip
def merge_undoes_partition(adapter: Adapter, draw: Any) -> None:
    window = draw(1, 4), draw(1, 4)
    x = _map(adapter, draw, window, draw(1, 3))
    windows = _say(adapter, "window_partition", x, window)
    back = _say(adapter, "window_merge", windows, window, x.shape[1:3])
    _same(back, x, f"map {x.shape}, window {window}")


@law("nothing is lost and nothing doubled", "window_partition")
def partition_is_a_permutation(adapter: Adapter, draw: Any) -> None:
    window = draw(1, 4), draw(1, 4)
    x = _map(adapter, draw, window)
    found = _say(adapter, "window_partition", x, window)
    _same(np.sort(found, axis=None), np.sort(x, axis=None), f"map {x.shape}, window {window}")


@law("roll(roll(x, a), b) = roll(x, a + b)", "roll")
def rolls_add_up(adapter: Adapter, draw: Any) -> None:
    x = _map(adapter, draw, (draw(1, 3), draw(1, 3)))
    a, b = (draw(-3, 3), draw(-3, 3)), (draw(-3, 3), draw(-3, 3))
    twice = _say(adapter, "roll", _say(adapter, "roll", x, a), b)
    once = _say(adapter, "roll", x, (a[0] + b[0], a[1] + b[1]))
    _same(twice, once, f"map {x.shape}, rolled by {a}, then by {b}")


@law("index + its transpose is constant; counts of displacements", "relative_position_index")
def index_mirrors(adapter: Adapter, draw: Any) -> None:
    Mh, Mw = window = draw(1, 4), draw(1, 4)
    index = _say(adapter, "relative_position_index", window)
    last = (2 * Mh - 1) * (2 * Mw - 1) - 1
    assert index.min() == 0, f"window {window}: the smallest index is {index.min()}"
    assert index.max() == last, f"window {window}: the largest index is {index.max()}, not {last}"
    mirrored = (index + index.T == last).all()
    assert mirrored, f"window {window}: index(p, q) + index(q, p) is not {last} everywhere"
    counts = np.bincount(index.ravel(), minlength=last + 1).reshape(2 * Mh - 1, 2 * Mw - 1)
    rows, columns = (M - abs(np.arange(1 - M, M)) for M in window)
    _same(counts, np.outer(rows, columns), f"window {window}: pairs of each displacement")


def _drawn_mask(adapter: Adapter, draw: Any) -> tuple[np.ndarray, tuple[Pair, Pair, Pair], str]:
    window = draw(2, 4), draw(2, 4)
    grid = window[0] * draw(2, 3), window[1] * draw(2, 3)
    shift = draw(1, window[0] - 1), draw(1, window[1] - 1)
    apart = _say(adapter, "attention_mask", grid, window, shift) != 0
    return apart, (grid, window, shift), f"grid {grid}, window {window}, shift {shift}"


@law("reflexive, symmetric, transitive in each window", "attention_mask", threads=MASKS)
def mask_is_an_equivalence(adapter: Adapter, draw: Any) -> None:
    apart, _, told = _drawn_mask(adapter, draw)
    assert not np.einsum("wii->wi", apart).any(), f"{told}: a token is kept from itself"
    _same(apart, apart.swapaxes(1, 2), f"{told}: not symmetric")
    through = (~apart).astype(np.float64) @ (~apart).astype(np.float64) > 0
    _same(through, ~apart, f"{told}: p sees q, q sees r, but p does not see r")


@law("the number of allowed pairs by the closed formula", "attention_mask", threads=MASKS)
def mask_counts(adapter: Adapter, draw: Any) -> None:
    apart, sizes, told = _drawn_mask(adapter, draw)
    sides = ((n // M - 1) * M * M + (M - s) ** 2 + s * s for n, M, s in zip(*sizes, strict=True))
    found, allowed = int((~apart).sum()), math.prod(sides)
    assert found == allowed, f"{told}: {found} allowed pairs, expected {allowed}"


@law("nothing is lost and nothing doubled", "patch_merge")
def merging_keeps_all(adapter: Adapter, draw: Any) -> None:
    x = _map(adapter, draw, (2, 2))
    found = _say(adapter, "patch_merge", x)
    _same(np.sort(found, axis=None), np.sort(x, axis=None), f"map {x.shape}")


@law("rows sum to 1; a constant changes nothing", "softmax")
def softmax_rows(adapter: Adapter, draw: Any) -> None:
    x = 4 * _made(adapter, draw(1, 4), draw(1, 9))
    p, few = _say(adapter, "softmax", x), _rounding(adapter, 32)
    assert (p >= 0).all() and np.allclose(p.sum(-1), 1, rtol=few, atol=0), (
        f"rows {x.shape}: a number is negative, or a row does not sum to 1"
    )
    assert np.allclose(_say(adapter, "softmax", x + 8), p, rtol=64 * few), "x + 8 gives another"


@law("gelu(x) − gelu(−x) = x", "gelu")
def gelu_mirrors(adapter: Adapter, draw: Any) -> None:
    x, few = 6 * _made(adapter, draw(1, 40)), _rounding(adapter, 64)
    difference = _say(adapter, "gelu", x) - _say(adapter, "gelu", -x)
    assert np.allclose(difference, x, rtol=few, atol=few), "gelu(x) − gelu(−x) is not x"


@law("an image's result does not depend on the batch", "window_attention")
def images_are_apart(adapter: Adapter, draw: Any) -> None:
    M, C, heads = draw(2, 3), 4, 2
    grid = M * 2 + draw(0, 1), M * 3
    made = recipe.weights_of(WindowAttention(C, heads, M, init=BLANKS))
    params = {name: w.astype(adapter.dtype) for name, w in made.items()}
    x = _made(adapter, draw(2, 4), *grid, C)
    rest = params, (M, M), (M // 2, M // 2), heads
    together = _say(adapter, "window_attention", x, *rest)
    each = [_say(adapter, "window_attention", x[i : i + 1], *rest) for i in range(len(x))]
    alone, few = np.concatenate(each), _rounding(adapter, 2000)
    assert together.shape == alone.shape, f"shapes {together.shape} and {alone.shape}"
    assert np.allclose(together, alone, rtol=few, atol=few), f"map {x.shape}, window {M}"

"""Laws: what holds for all inputs, tried on many that hypothesis draws. They need no truth of ours.

Hypothesis is part of minswin[test]; without it the laws are reported as not covered.
"""

from __future__ import annotations

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
from minswin.crosscheck.probes.layers import BLANKS
from minswin.layers import WindowAttention

INSTALL = 'pip install "minswin[test]"'
EXAMPLES = 25
Pair = tuple[int, int]


@dataclass(frozen=True)
class Law:
    """A claim about one function or two: `claim(adapter, draw)` raises AssertionError."""

    name: str
    aim: str
    needs: tuple[str, ...]
    claim: Callable[[Adapter, Any], None]
    threads: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        return self.needs[0]

    def missing(self, adapter: Adapter) -> str:
        """Why the law cannot be tried; "" if it can."""
        none = "" if find_spec("hypothesis") else f"needs hypothesis: {INSTALL}"
        return adapter.lacks(self.needs) or none


def try_out(law: Law, adapter: Adapter) -> None:
    """Try a law on many inputs, always the same; raises what the smallest bad one raises."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    sure = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )

    @sure
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


# ── inputs ───────────────────────────────────────────────────────────────────────────────────────


def _window(draw: Any) -> Pair:
    return draw(1, 4), draw(1, 4)


def _map(adapter: Adapter, draw: Any, window: Pair, batch: int = 2) -> np.ndarray:
    """A map (B, H, W, C) that the window divides."""
    shape = batch, window[0] * draw(1, 3), window[1] * draw(1, 3), draw(1, 3)
    return recipe.array("law", shape).astype(adapter.dtype)


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


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────


def _merge_undoes_partition(adapter: Adapter, draw: Any) -> None:
    window = _window(draw)
    x = _map(adapter, draw, window, draw(1, 3))
    windows = _say(adapter, "window_partition", x, window)
    back = _say(adapter, "window_merge", windows, window, x.shape[1:3])
    _same(back, x, f"map {x.shape}, window {window}")


def _partition_is_a_permutation(adapter: Adapter, draw: Any) -> None:
    window = _window(draw)
    x = _map(adapter, draw, window)
    found = _say(adapter, "window_partition", x, window)
    _same(np.sort(found, axis=None), np.sort(x, axis=None), f"map {x.shape}, window {window}")


def _rolls_add_up(adapter: Adapter, draw: Any) -> None:
    x = _map(adapter, draw, (draw(1, 3), draw(1, 3)))
    a, b = (draw(-3, 3), draw(-3, 3)), (draw(-3, 3), draw(-3, 3))
    twice = _say(adapter, "roll", _say(adapter, "roll", x, a), b)
    once = _say(adapter, "roll", x, (a[0] + b[0], a[1] + b[1]))
    _same(twice, once, f"map {x.shape}, rolled by {a}, then by {b}")


def _index_mirrors(adapter: Adapter, draw: Any) -> None:
    Mh, Mw = window = _window(draw)
    index = _say(adapter, "relative_position_index", window)
    last = (2 * Mh - 1) * (2 * Mw - 1) - 1
    assert index.min() == 0, f"window {window}: the smallest index is {index.min()}"
    assert index.max() == last, f"window {window}: the largest index is {index.max()}, not {last}"
    mirrored = (index + index.T == last).all()
    assert mirrored, f"window {window}: index(p, q) + index(q, p) is not {last} everywhere"
    counts = np.bincount(index.ravel(), minlength=last + 1).reshape(2 * Mh - 1, 2 * Mw - 1)
    rows, columns = (M - abs(np.arange(1 - M, M)) for M in window)
    _same(counts, np.outer(rows, columns), f"window {window}: pairs of each displacement")


def _drawn_mask(adapter: Adapter, draw: Any) -> tuple[np.ndarray, tuple[Pair, Pair, Pair]]:
    window = draw(2, 4), draw(2, 4)
    grid = window[0] * draw(2, 3), window[1] * draw(2, 3)
    shift = draw(1, window[0] - 1), draw(1, window[1] - 1)
    apart = _say(adapter, "attention_mask", grid, window, shift) != 0
    return apart, (grid, window, shift)


def _mask_is_an_equivalence(adapter: Adapter, draw: Any) -> None:
    apart, told = _drawn_mask(adapter, draw)
    together = ~apart
    said = "grid {}, window {}, shift {}".format(*told)
    assert not np.einsum("wii->wi", apart).any(), f"{said}: a token is kept from itself"
    _same(apart, apart.swapaxes(1, 2), f"{said}: not symmetric")
    through = together.astype(np.float64) @ together.astype(np.float64) > 0
    _same(through, together, f"{said}: p sees q, q sees r, but p does not see r")


def _mask_counts(adapter: Adapter, draw: Any) -> None:
    apart, (grid, window, shift) = _drawn_mask(adapter, draw)
    allowed = 1
    for n, M, s in zip(grid, window, shift, strict=True):
        allowed *= (n // M - 1) * M * M + (M - s) ** 2 + s * s
    found = int((~apart).sum())
    assert found == allowed, (
        f"grid {grid}, window {window}, shift {shift}: {found} allowed pairs, expected {allowed}"
    )


def _merging_keeps_all(adapter: Adapter, draw: Any) -> None:
    x = _map(adapter, draw, (2, 2))
    found = _say(adapter, "patch_merge", x)
    _same(np.sort(found, axis=None), np.sort(x, axis=None), f"map {x.shape}")


def _softmax_rows(adapter: Adapter, draw: Any) -> None:
    x = (4 * recipe.array("law", (draw(1, 4), draw(1, 9)))).astype(adapter.dtype)
    p = _say(adapter, "softmax", x)
    few = 32 * float(np.finfo(adapter.dtype).eps)
    assert (p >= 0).all() and np.allclose(p.sum(-1), 1, rtol=few, atol=0), (
        f"rows {x.shape}: a number is negative, or a row does not sum to 1"
    )
    assert np.allclose(_say(adapter, "softmax", x + 8), p, rtol=64 * few), "x + 8 gives another"


def _gelu_mirrors(adapter: Adapter, draw: Any) -> None:
    x = (6 * recipe.array("law", (draw(1, 40),))).astype(adapter.dtype)
    few = 64 * float(np.finfo(adapter.dtype).eps)
    difference = _say(adapter, "gelu", x) - _say(adapter, "gelu", -x)
    assert np.allclose(difference, x, rtol=few, atol=few), "gelu(x) − gelu(−x) is not x"


def _images_are_apart(adapter: Adapter, draw: Any) -> None:
    """The layer on a batch is the layer on each image."""
    M, C, heads = draw(2, 3), 4, 2
    grid = M * 2 + draw(0, 1), M * 3
    made = recipe.weights_of(WindowAttention(C, heads, M, init=BLANKS))
    params = {name: w.astype(adapter.dtype) for name, w in made.items()}
    x = recipe.array("law", (draw(2, 4), *grid, C)).astype(adapter.dtype)
    rest = params, (M, M), (M // 2, M // 2), heads
    together = _say(adapter, "window_attention", x, *rest)
    alone = np.concatenate(
        [_say(adapter, "window_attention", x[i : i + 1], *rest) for i in range(len(x))]
    )
    few = 2000 * float(np.finfo(adapter.dtype).eps)
    assert together.shape == alone.shape, f"shapes {together.shape} and {alone.shape}"
    assert np.allclose(together, alone, rtol=few, atol=few), f"map {x.shape}, window {M}"


def laws() -> Iterator[Law]:
    """All laws, each with what it is aimed at."""
    both = "window_partition", "window_merge"
    masks = ("zsyOAOA/ResShift#81",)
    yield Law("law/merge_undoes_partition", "a bijection for every B, H, W, C and M", both,
              _merge_undoes_partition, ("ByChelsea/CMOS#4",))  # fmt: skip
    yield Law("law/partition_is_a_permutation", "nothing is lost and nothing doubled", both[:1],
              _partition_is_a_permutation)  # fmt: skip
    yield Law("law/rolls_add_up", "roll(roll(x, a), b) = roll(x, a + b)", ("roll",), _rolls_add_up)
    yield Law("law/index_mirrors", "index + its transpose is constant; counts of displacements",
              ("relative_position_index",), _index_mirrors)  # fmt: skip
    yield Law("law/mask_is_an_equivalence", "reflexive, symmetric, transitive in each window",
              ("attention_mask",), _mask_is_an_equivalence, masks)  # fmt: skip
    yield Law("law/mask_counts", "the number of allowed pairs by the closed formula",
              ("attention_mask",), _mask_counts, masks)  # fmt: skip
    yield Law("law/merging_keeps_all", "nothing is lost and nothing doubled", ("patch_merge",),
              _merging_keeps_all)  # fmt: skip
    yield Law("law/softmax_rows", "rows sum to 1; a constant changes nothing", ("softmax",),
              _softmax_rows)  # fmt: skip
    yield Law("law/gelu_mirrors", "gelu(x) − gelu(−x) = x", ("gelu",), _gelu_mirrors)
    yield Law("law/images_are_apart", "an image's result does not depend on the batch",
              ("window_attention",), _images_are_apart)  # fmt: skip

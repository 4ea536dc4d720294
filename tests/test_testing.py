"""minswin.testing on others' functions: right ones pass, each wrong one is refused in words."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import law
from hypothesis import given, settings
from hypothesis import strategies as st

from minswin.reference.attention import attention
from minswin.reference.windows import attention_mask, relative_position_index
from minswin.testing import (
    Cut,
    laws,
    maps,
    masks,
    oracles,
    seeds,
    usual_partition,
    usual_reverse,
    windows,
)
from minswin.testing.claims import assert_close

README = Path(__file__).parents[1] / "README.md"


# ── the usual functions, as they stand in many a port ────────────────────────────────────────────


def window_partition(x: Any, M: int) -> Any:
    """(B, H, W, C) to (B·nW, M, M, C), for NumPy's arrays and torch's tensors."""
    B, H, W, C = x.shape
    x = x.reshape(B, H // M, M, W // M, M, C)
    x = x.transpose(2, 3) if hasattr(x, "permute") else x.swapaxes(2, 3)
    return x.reshape(-1, M, M, C)


def window_reverse(windows: Any, M: int, H: int, W: int) -> Any:
    """The way back."""
    x = windows.reshape(-1, H // M, W // M, M, M, windows.shape[-1])
    x = x.transpose(2, 3) if hasattr(x, "permute") else x.swapaxes(2, 3)
    return x.reshape(x.shape[0], H, W, -1)


def mask_by_slices(cut: Cut) -> np.ndarray:
    """As the original makes it: a map of region numbers, cut into windows and compared."""
    image = np.zeros((1, *cut.grid, 1))
    slices = [
        (slice(0, -M), slice(-M, -s), slice(-s, None)) if s else (slice(None),)
        for M, s in zip(cut.window, cut.shift, strict=True)
    ]
    for number, (rows, columns) in enumerate((r, c) for r in slices[0] for c in slices[1]):
        image[:, rows, columns] = number
    labels = oracles.partition(image, cut.window)[0, :, :, 0]  # (nW, N)
    return np.where(labels[:, None] == labels[:, :, None], 0.0, -100.0)


square = windows(square=True)


@law(cut=square)
def test_functions_with_the_usual_signatures_pass(cut: Cut) -> None:
    laws.partition(usual_partition(window_partition), cut)
    laws.merge(usual_reverse(window_reverse), cut)
    pairs = lambda x, sides: window_partition(x, *set(sides))  # noqa: E731
    laws.partition(usual_partition(pairs, pairs=True), cut)


@law(cut=windows(), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 9))
def test_masks_and_attention_of_others_pass(cut: Cut, dtype: Any, seed: int) -> None:
    mask = mask_by_slices(cut)
    laws.mask(mask, cut)
    laws.mask(mask[None, :, None] == 0, cut)  # (1, nW, 1, N, N), True where it may look
    laws.mask(np.where(mask < 0, -np.inf, 0), cut)

    def roll_and_mask(qkv: np.ndarray, table: np.ndarray, window: Any, shift: Any) -> np.ndarray:
        B, H, W, channels = qkv.shape
        h = table.shape[1]
        x = np.roll(qkv, (-shift[0], -shift[1]), axis=(1, 2))
        x = oracles.partition(x, window).reshape(B, -1, cut.tokens, 3, h, channels // 3 // h)
        q, k, v = x.transpose(3, 0, 1, 4, 2, 5)  # (B, nW, h, N, d)
        bias = table[relative_position_index(window)].transpose(2, 0, 1)
        y, _ = attention(q, k, v, (bias + mask[:, None]).astype(dtype))
        y = y.swapaxes(2, 3).reshape(B, -1, cut.tokens, channels // 3)
        y = y.reshape(B, H // window[0], W // window[1], *window, -1).swapaxes(2, 3)
        return np.roll(y.reshape(B, H, W, -1), shift, axis=(1, 2))

    laws.shifted_attention(roll_and_mask, cut, seed=seed, dtype=dtype)
    with pytest.raises(AssertionError, match=r"differs most from attention in its .*, by 0\.\d"):
        laws.shifted_attention(
            lambda qkv, table, *rest: 1.1 * roll_and_mask(qkv, table, *rest), cut, dtype=dtype
        )


@law(sees=masks(), d=st.integers(1, 3), seed=seeds)
def test_masked_attention_is_attention_to_the_keys_that_are_seen(
    sees: np.ndarray, d: int, seed: int
) -> None:
    (N, M), rng = sees.shape, np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((n, d)) for n in (N, M, M))
    y, _ = attention(q, k, v, np.where(sees, 0.0, -np.inf))
    assert_close(y, oracles.attend(q, k, v, np.where(sees, 0, -np.inf)))
    for i in range(N):
        assert_close(y[i : i + 1], attention(q[i : i + 1], k[sees[i]], v[sees[i]], None)[0])


def test_tensors_of_torch_are_taken() -> None:
    torch = pytest.importorskip("torch")

    @settings(max_examples=20, deadline=None)
    @given(square)
    def run(cut: Cut) -> None:
        laws.partition(usual_partition(window_partition, tensor=torch.from_numpy), cut)
        laws.merge(usual_reverse(window_reverse, tensor=torch.from_numpy), cut)
        laws.mask(torch.from_numpy(mask_by_slices(cut)), cut)

    run()


# ── wrong ones ───────────────────────────────────────────────────────────────────────────────────


def by_columns(x: np.ndarray, M: int) -> np.ndarray:
    return window_partition(x.swapaxes(1, 2), M).swapaxes(1, 2)


def without_permuting(x: np.ndarray, M: int) -> np.ndarray:
    return x.reshape(-1, M, M, x.shape[-1])


def smallest(strategy: Any, try_it: Any) -> str:
    """What the smallest drawn example says that a law refuses."""

    @settings(max_examples=100, database=None, deadline=None, report_multiple_bugs=False)
    @given(strategy)
    def run(drawn: Any) -> None:
        try_it(drawn)

    with pytest.raises(AssertionError) as caught:
        run()
    return str(caught.value)


@pytest.mark.parametrize("wrong", [by_columns, without_permuting])
def test_a_wrong_partition_is_named_by_its_first_wrong_token(wrong: Any) -> None:
    text = smallest(square, lambda cut: laws.partition(usual_partition(wrong), cut))
    pattern = r"partition, map \d+×\d+, windows 2×2, .* of window \d+ of image 0 should be"
    assert re.search(pattern, text), text


def test_wrong_ways_back_and_merges_are_named() -> None:
    def joined(windows: np.ndarray, M: int, H: int, W: int) -> np.ndarray:
        return windows.reshape(-1, H, W, windows.shape[-1])

    text = smallest(square, lambda cut: laws.merge(usual_reverse(joined), cut))
    assert "of image 0, channel 0 stands the token (1, 0)" in text

    def by_rows(x: np.ndarray) -> np.ndarray:
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return np.concatenate(parts, axis=-1)

    text = smallest(maps(multiple=(2, 2)), lambda x: laws.merging(by_rows, x))
    assert "channel 1 of the token (0, 0) of image 0 should be the token (1, 0) of image 0" in text
    laws.merging(oracles.merge_neighbours, np.ones((1, 2, 4, 3)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda cut: np.zeros_like(mask_by_slices(cut)), "of two, and are not masked"),
        (lambda cut: mask_by_slices(cut)[::-1], "are"),
        (lambda cut: mask_by_slices(cut) - 1, "of one region, and are kept apart"),
        (lambda cut: mask_by_slices(cut) / 100, "-1 keeps nothing apart; use -100 or -inf"),
        (lambda cut: mask_by_slices(cut)[:, :1, :1], r"expected \(\d+, \d+, \d+\) or its groups"),
        (lambda cut: mask_by_slices(cut) != 0, "are"),
        (
            lambda cut: attention_mask(cut.grid, cut.window, tuple(-s % M for s, M in
                                       zip(cut.shift, cut.window, strict=True))),
            "are",
        ),
    ],
)  # fmt: skip
def test_a_wrong_mask_is_named_by_its_first_wrong_pair(wrong: Any, words: str) -> None:
    text = smallest(windows(sides=(3, 4), counts=(2, 2)), lambda cut: laws.mask(wrong(cut), cut))
    assert text.startswith("mask, map ") and re.search(words, text), text


def test_an_index_of_key_minus_query_is_called_so() -> None:
    laws.index(relative_position_index((2, 3)).reshape(2, 3, 2, 3).reshape(6, 6), (2, 3))
    with pytest.raises(AssertionError, match=r"query \(0, 0\) and key \(0, 1\) .*key − query"):
        laws.index(relative_position_index((2, 3)).T, (2, 3))
    with pytest.raises(AssertionError, match=r"should take row 4 of the table, got 5$"):
        laws.index(relative_position_index((2, 2)) + 1, (2, 2))


def test_a_function_of_one_side_refuses_windows_of_two() -> None:
    with pytest.raises(ValueError, match=r"one side .* got a window \(2, 3\); draw with windows"):
        usual_partition(window_partition)(np.zeros((1, 4, 6, 1)), (2, 3))


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────


@law(cut=windows(shifted=False), shifted=windows(), alike=square, x=maps(), sees=masks())
def test_what_is_drawn_is_as_it_is_described(
    cut: Cut, shifted: Cut, alike: Cut, x: np.ndarray, sees: np.ndarray
) -> None:
    for drawn in (cut, shifted, alike):
        (H, W), (Mh, Mw), (sh, sw) = drawn
        assert H != W and H % Mh == W % Mw == 0 and 0 <= sh < Mh and 0 <= sw < Mw
        assert drawn.windows == (H // Mh, W // Mw) and drawn.tokens == Mh * Mw
    assert cut.shift == (0, 0) and any(shifted.shift)
    assert len(set(alike.window)) == len(set(alike.shift)) == 1 and all(alike.shift)
    assert x.ndim == 4 and x.shape[1] != x.shape[2] and len(np.unique(x)) == x.size
    assert sees.any(axis=1).all()


def test_without_hypothesis_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules["hypothesis"] = None
try:
    import minswin.testing
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "hypothesis is missing" in done.stdout and 'pip install "minswin[test]"' in done.stdout


# ── the README ───────────────────────────────────────────────────────────────────────────────────


def test_the_test_in_the_readme_passes_for_a_right_mask_and_fails_for_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.M)
    (program,) = (block for block in blocks if "minswin.testing" in block)
    yours = types.ModuleType("yours")
    monkeypatch.setitem(sys.modules, "yours", yours)

    def run(mask: Any) -> None:
        yours.my_mask = mask  # type: ignore[attr-defined]
        names: dict[str, Any] = {}
        exec(program, names)
        names["test_my_mask"]()

    run(lambda grid, window, shift: mask_by_slices(Cut(grid, window, shift)))
    with pytest.raises(AssertionError, match="mask, map"):
        run(lambda grid, window, shift: 0 * mask_by_slices(Cut(grid, window, shift)))

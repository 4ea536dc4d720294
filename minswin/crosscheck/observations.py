"""What is true of a wrong tensor though nobody knows why it is wrong: hints for the search."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from minswin.crosscheck.recording import Step

Array = np.ndarray
NEAR = 1e-4  # of the largest element


def observe(step: Step, theirs: Array, right: Array, limit: float = np.inf) -> Iterator[str]:
    """Sentences about `theirs`, against the value it should have; off by `limit` is still right."""
    if not np.any(theirs):
        yield "it is zero everywhere"
        return
    yield from _simple(theirs, right)
    yield from _order(step, theirs, right)
    yield from _where(step, theirs, right, limit)


def _near(a: Array, b: Array) -> bool:
    return bool(np.max(np.abs(a - b), initial=0) <= NEAR * np.max(np.abs(b), initial=0))


def _simple(y: Array, right: Array) -> Iterator[str]:
    """One number for all elements."""
    norm = float((right * right).sum())
    factor = float((y * right).sum()) / norm if norm else 0.0
    if factor and _near(y, factor * right) and not _near(y, right):
        yield f"it is the right tensor times {factor:.6g} everywhere"
    offset = float(np.mean(y - right))
    if _near(y, right + offset) and abs(offset) > NEAR * np.max(np.abs(right)):
        yield f"it is the right tensor plus {offset:.6g} everywhere"
    if _near(y, right):
        yield "it is right to about four digits: look at the precision of this step"
    half = right.astype(np.float16).astype(np.float64)
    if np.array_equal(y, half):
        yield "it is the right tensor rounded to float16"


def _order(step: Step, y: Array, right: Array) -> Iterator[str]:
    """The right numbers in wrong places."""
    for a, b in combinations(range(y.ndim), 2):
        if y.shape[a] == y.shape[b] and y.shape[a] > 1 and _near(y.swapaxes(a, b), right):
            yield f"it is right after exchanging its axes {_axis(step, a)} and {_axis(step, b)}"
    for axis in range(y.ndim):
        if y.shape[axis] > 1 and not _near(y, right) and _permuted(y, right, axis):
            yield f"it is right but for the order along its axis {_axis(step, axis)}"
        if y.shape[axis] > 1 and _near(np.flip(y, axis), right):
            yield f"it is right after reversing its axis {_axis(step, axis)}"
    if not _near(y, right) and _near(np.sort(y, axis=None), np.sort(right, axis=None)):
        yield "it holds the right numbers in another order"


def _permuted(y: Array, right: Array, axis: int) -> bool:
    """Whether slices along an axis are the right ones in another order."""
    a = np.moveaxis(y, axis, 0).reshape(y.shape[axis], -1)
    b = np.moveaxis(right, axis, 0).reshape(y.shape[axis], -1)
    weights = np.cos(np.arange(a.shape[1]) * 1.7)  # slices are told apart by one number each
    a, b = (x[np.argsort(x @ weights, kind="stable")] for x in (a, b))
    return _near(a, b) and len(np.unique(b @ weights)) > 1


def _where(step: Step, y: Array, right: Array, limit: float) -> Iterator[str]:
    """Wrong in some places only."""
    wrong = np.abs(y - right) > min(limit, NEAR * np.max(np.abs(right), initial=0))
    share = float(wrong.mean())
    if not 0 < share < 1:
        return
    yield f"{share:.1%} of its elements are wrong"
    for axis, meaning in enumerate(step.axes):
        others = tuple(a for a in range(y.ndim) if a != axis)
        hit = np.flatnonzero(wrong.any(axis=others))
        if 0 < len(hit) < y.shape[axis] and meaning:
            shown = ", ".join(map(str, hit[:8])) + (", …" if len(hit) > 8 else "")
            verb = "is" if len(hit) == 1 else "are"
            yield f"only {meaning} {shown} (of 0 to {y.shape[axis] - 1}) {verb} wrong"
    if "window" in step.axes and "grid" in step.geometry:
        yield from _border(step, wrong)


def _border(step: Step, wrong: Array) -> Iterator[str]:
    row, column = places(step)
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    if not (sh or sw):
        return
    seam = np.asarray(((row >= H - sh) | (column >= W - sw)).any(axis=1))  # (nW,)
    axis = step.axes.index("window")
    hit = np.asarray(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
    if len(seam) == len(hit) and hit.any() and not hit[~seam].any():
        yield "only windows that the shift's seam crosses are wrong: look at mask and roll"


def _axis(step: Step, axis: int) -> str:
    meaning = step.axes[axis] if axis < len(step.axes) else ""
    return f"{axis} ({meaning})" if meaning else str(axis)


def places(step: Step) -> tuple[Array, Array]:
    """Row and column on the rolled map of every token of every window: (nW, N) each."""
    (H, W), (Mh, Mw) = step.geometry["grid"], step.geometry["window"]
    row, column = np.divmod(np.arange(H * W), W)
    both = (x.reshape(H // Mh, Mh, W // Mw, Mw).swapaxes(1, 2) for x in (row, column))
    rows, columns = (x.reshape(-1, Mh * Mw) for x in both)
    return rows, columns

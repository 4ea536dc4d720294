"""What is said of a tensor: what is true of a wrong one though nobody knows why it is wrong, and
where in the model an element is, in the words of Swin, with the place in the image.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from minswin.crosscheck.layouts import Windows, windows_of
from minswin.crosscheck.recording import Step
from minswin.reference.windows import attention_mask

Array = np.ndarray
NEAR = 1e-4  # of the largest element
REORDERED = "it holds the right numbers in another order"


def observe(
    step: Step,
    theirs: Array,
    right: Array,
    limit: float = np.inf,
    windows: Windows | None = None,
) -> Iterator[str]:
    """Sentences about `theirs`, against the value it should have; off by `limit` is still right.

    windows: of the layer that the step stands in
    """
    yield from likeness(step, theirs, right)
    if np.any(theirs):
        yield from _where(step, theirs, right, limit, windows)


def likeness(step: Step, theirs: Array, right: Array) -> Iterator[str]:
    """What the whole of `theirs` is to the right tensor: a multiple of it, in another order, …"""
    if not np.any(theirs):
        yield "it is zero everywhere"
    elif right.size > 1:  # any number is a multiple of any other
        yield from _simple(theirs, right)
        yield from _order(step, theirs, right)


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
    if np.array_equal(y, right.astype(np.float16).astype(np.float64)):
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
        yield REORDERED


def _permuted(y: Array, right: Array, axis: int) -> bool:
    """Whether slices along an axis are the right ones in another order."""
    a = np.moveaxis(y, axis, 0).reshape(y.shape[axis], -1)
    b = np.moveaxis(right, axis, 0).reshape(y.shape[axis], -1)
    weights = np.cos(np.arange(a.shape[1]) * 1.7)  # slices are told apart by one number each
    a, b = (x[np.argsort(x @ weights, kind="stable")] for x in (a, b))
    return _near(a, b) and len(np.unique(b @ weights)) > 1


def _where(
    step: Step, y: Array, right: Array, limit: float, windows: Windows | None
) -> Iterator[str]:
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
    if "window" in step.axes and windows is not None and any(windows.shift):
        seam = np.any(attention_mask(*windows[:3]), axis=(1, 2))  # (nW,) what it crosses is masked
        axis = step.axes.index("window")
        hit = np.asarray(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        if len(seam) == len(hit) and hit.any() and not hit[~seam].any():
            yield "only windows that the shift's seam crosses are wrong: look at mask and roll"


def dropped(branch: Array, theirs: Array) -> bool:
    """Whether what is left of a branch is zero in places, and larger by one factor elsewhere."""
    none = np.abs(theirs) <= 1e-5 * np.max(np.abs(branch))
    if not 0.001 < none.mean() < 0.9:
        return False
    factor = float((theirs * branch)[~none].sum() / (branch * branch)[~none].sum())
    off = np.abs(theirs - factor * branch)[~none]
    return factor > 1.001 and float(off.max()) <= 1e-4 * float(np.max(np.abs(branch)))


def _axis(step: Step, axis: int) -> str:
    meaning = step.axes[axis] if axis < len(step.axes) else ""
    return f"{axis} ({meaning})" if meaning else str(axis)


# ── where an element is ──────────────────────────────────────────────────────────────────────────

Pair = tuple[int, int]
PLAIN = ("channel", "feature", "optimizer step")  # axes whose number says enough
PARTS = {
    "attn": "attention", "norm1": "norm before attention", "norm2": "norm before the MLP",
    "mlp": "MLP", "downsample": "merge", "proj": "projection", "patch_embed": "patch embedding",
}  # fmt: skip
KINDS = {
    "q": "queries", "k": "keys", "v": "values", "fc1": "first linear layer", "gelu": "GELU",
    "fc2": "second linear layer", "qkv": "q, k and v", "map": "map of heads",
    "bias": "relative bias",
    "bias_and_mask": "bias and mask", "shifted": "shifted map", "merged": "heads side by side",
    "rolled": "rolled map of heads", "neighbours": "2×2 neighbours", "head": "classifier",
    "pooled": "mean of the tokens", "patches": "patches", "index": "relative position index",
}  # fmt: skip


def place_of(name: str) -> str:
    """layers.1.blocks.1.attn.logits -> stage 1, block 1, attention, logits"""
    words = []
    if match := re.match(r"layers\.(\d+)\.(?:blocks\.(\d+)\.?)?", name):
        numbers = zip(("stage", "block"), match.groups(), strict=True)
        words = [f"{word} {number}" for word, number in numbers if number is not None]
        name = name[match.end() :]
    parts = [part for part in name.split(".") if part]
    return ", ".join(words + [PARTS.get(part, KINDS.get(part, part)) for part in parts])


def describe(step: Step, index: Sequence[int], steps: Mapping[str, Step]) -> str:
    """One element of a step: image 0, window (0, 1), head 2, query (3, 0) ↔ key (6, 6); …

    Places in the image are given with window and shift undone, as the pixels of the patch.
    """
    at = dict(zip(step.axes, (int(i) for i in index), strict=False))
    windows = windows_of(steps).get(step.name)
    across = windows.window[1] if windows is not None else sys.maxsize
    words = [f"image {at['image']}"] if "image" in at else []
    if "window" in at and windows is not None:
        words.append(f"window {divmod(at['window'], windows.grid[1] // across)}")
    words += [f"head {at['head']}"] if "head" in at else []
    if "query" in at:
        words.append(f"query {divmod(at['query'], across)} ↔ key {divmod(at['key'], across)}")
    if "token" in at:
        words.append(f"token {divmod(at['token'], across) if 'window' in at else at['token']}")
    for prefix in ("", "rolled "):
        if f"{prefix}row" in at:
            words.append(f"{prefix}row {at[prefix + 'row']}, column {at[prefix + 'column']}")
    words += [f"{axis} {at[axis]}" for axis in PLAIN if axis in at]
    if not words and len(index):
        words = [f"index {tuple(int(i) for i in index)}"]
    pixels = _pixels(step, at, windows, steps)
    return ", ".join(words) + (f"; {pixels}" if pixels else "")


def _pixels(
    step: Step, at: Mapping[str, int], windows: Windows | None, steps: Mapping[str, Step]
) -> str:
    """The pixels of the tokens that the element is about."""
    side = _pixels_per_token(step, steps)
    places: list[Pair] = [(at["row"], at["column"])] if "row" in at else []
    real: tuple[float, float] = (np.inf, np.inf)  # rows and columns without padding
    if step.op == "pad":
        real = steps[step.inputs[0]].value.shape[1:3]
    elif windows is not None:
        real, tokens = windows.unpadded, []
        if "window" in at:
            ends = [at[end] for end in ("query", "key", "token") if end in at]
            tokens = [*windows.tokens[at["window"], ends]]
        elif "rolled row" in at:
            tokens = [windows.rolled[at["rolled row"], at["rolled column"]]]
        places += [divmod(int(token), windows.grid[1]) for token in tokens]
    if side is None or not places:
        return ""
    told = []
    for place in places:
        zipped = zip(place, side, steps["image"].value.shape[2:], strict=True)
        # behind an odd merge the last tokens reach beyond the image
        rows, columns = (f"{at * n}…{min(at * n + n, end) - 1}" for at, n, end in zipped)
        inside = place[0] < real[0] and place[1] < real[1]
        told.append(f"(rows {rows}, columns {columns})" if inside else "padding")
    return f"image coordinates {' ↔ '.join(told)}"


def _pixels_per_token(step: Step, steps: Mapping[str, Step]) -> Pair | None:
    """The strides of the patch embedding up to this step, doubled by every merge."""
    side = None
    for one in steps.values():
        if one.op == "conv2d" and one.name.startswith("patch_embed."):
            (height, width), (down, right) = side or (1, 1), one.settings["stride"]
            side = height * down, width * right
        if one.op == "patch_merge" and side is not None:
            side = 2 * side[0], 2 * side[1]
        if one.name == step.name:
            break
    return side

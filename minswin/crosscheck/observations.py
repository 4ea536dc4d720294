"""What is said of a tensor: what is true of a wrong one though nobody knows why it is wrong, and
where in the model an element is, in the words of Swin, with the place in the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from minswin.crosscheck.recording import Step

Array = np.ndarray
NEAR = 1e-4  # of the largest element
REORDERED = "it holds the right numbers in another order"


def observe(step: Step, theirs: Array, right: Array, limit: float = np.inf) -> Iterator[str]:
    """Sentences about `theirs`, against the value it should have; off by `limit` is still right."""
    yield from likeness(step, theirs, right)
    if np.any(theirs):
        yield from _where(step, theirs, right, limit)


def likeness(step: Step, theirs: Array, right: Array) -> Iterator[str]:
    """What the whole of `theirs` is to the right tensor: a multiple of it, in another order, …"""
    if np.any(theirs):
        yield from _simple(theirs, right)
        yield from _order(step, theirs, right)
    else:
        yield "it is zero everywhere"


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
        yield REORDERED


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
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    if not (sh or sw):
        return
    Mh, Mw = step.geometry["window"]
    windows, tokens = np.arange(H // Mh * (W // Mw)), np.arange(Mh * Mw)
    row, column = _rolled(step, windows[:, None], tokens)  # (nW, N) each
    seam = np.asarray(((row >= H - sh) | (column >= W - sw)).any(axis=1))  # (nW,)
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
    match = re.match(r"layers\.(\d+)\.(?:blocks\.(\d+)\.?)?", name)
    if match:
        words.append(f"stage {match[1]}")
        words += [f"block {match[2]}"] if match[2] is not None else []
        name = name[match.end() :]
    parts = [part for part in name.split(".") if part]
    return ", ".join(words + [PARTS.get(part, KINDS.get(part, part)) for part in parts])


def describe(step: Step, index: Sequence[int], steps: Mapping[str, Step]) -> str:
    """One element of a step: image 0, window (0, 1), head 2, query (3, 0) ↔ key (6, 6); …

    Places in the image are given with window and shift undone, as the pixels of the patch.
    """
    at = dict(zip(step.axes, (int(i) for i in index), strict=False))
    words = [f"image {at['image']}"] if "image" in at else []
    words += [f"window {_window(step, at['window'])}"] if "window" in at else []
    words += [f"head {at['head']}"] if "head" in at else []
    if "query" in at:
        query, key = (_in_window(step, at[end]) for end in ("query", "key"))
        words.append(f"query {query} ↔ key {key}")
    if "token" in at:
        token = _in_window(step, at["token"]) if "window" in at else at["token"]
        words.append(f"token {token}")
    for prefix in ("", "rolled "):
        if f"{prefix}row" in at:
            words.append(f"{prefix}row {at[prefix + 'row']}, column {at[prefix + 'column']}")
    words += [f"{axis} {at[axis]}" for axis in PLAIN if axis in at]
    if not words and len(index):
        words = [f"index {tuple(int(i) for i in index)}"]
    pixels = _pixels(step, at, steps)
    return ", ".join(words) + (f"; {pixels}" if pixels else "")


def _window(step: Step, number: Any) -> tuple[Any, Any]:
    columns = step.geometry["grid"][1] // step.geometry["window"][1]
    return divmod(number, columns)


def _in_window(step: Step, token: Any) -> tuple[Any, Any]:
    return divmod(token, step.geometry["window"][1]) if "window" in step.geometry else (0, token)


def _pixels(step: Step, at: Mapping[str, int], steps: Mapping[str, Step]) -> str:
    """The pixels of the tokens that the element is about."""
    side = _pixels_per_token(step, steps)
    if side is None:
        return ""
    places: list[Pair] = []
    if "query" in at and "window" in at:
        places = [_on_map(step, at["window"], at[end]) for end in ("query", "key")]
    elif "token" in at and "window" in at:
        places = [_on_map(step, at["window"], at["token"])]
    elif "rolled row" in at:
        places = [_unrolled(step, at["rolled row"], at["rolled column"])]
    elif "row" in at:
        places = [(at["row"], at["column"])]
    (H, W), image = _real_grid(step, steps), steps["image"].value.shape[2:]
    told = [_patch(p, side, image) if p[0] < H and p[1] < W else "padding" for p in places]
    return f"image coordinates {' ↔ '.join(told)}" if told else ""


def _real_grid(step: Step, steps: Mapping[str, Step]) -> tuple[float, float]:
    """Rows and columns of the map without its padding; infinite where nothing is padded."""
    if step.kind == "padded":
        return steps[step.inputs[0]].value.shape[1:3]
    if "H" in step.geometry and "grid" in step.geometry:
        return step.geometry["H"], step.geometry["W"]
    return np.inf, np.inf


def _on_map(step: Step, window: int, token: int) -> Pair:
    return _unrolled(step, *_rolled(step, window, token))


def _rolled(step: Step, window: Any, token: Any) -> tuple[Any, Any]:
    """Row and column on the rolled map of a token of a window; of all, where arrays are given."""
    (Mh, Mw), (row, column) = step.geometry["window"], _window(step, window)
    r, c = _in_window(step, token)
    return row * Mh + r, column * Mw + c


def _unrolled(step: Step, row: int, column: int) -> Pair:
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    return (row + sh) % H, (column + sw) % W


def _patch(place: Pair, side: Pair, image: Pair) -> str:
    """The pixels of a token; behind an odd merge the last ones reach beyond the image."""
    spans = []
    for at, length, end in zip(place, side, image, strict=True):
        spans.append(f"{at * length}…{min(at * length + length, end) - 1}")
    return f"(rows {spans[0]}, columns {spans[1]})"


def _pixels_per_token(step: Step, steps: Mapping[str, Step]) -> Pair | None:
    """The patch of the first map, doubled for every merge before this step."""
    weight = steps.get("patch_embed.proj.weight")
    if weight is None or step.name.startswith(("image", "patch_embed.proj.conv")):
        return None
    merges = 0
    match = re.match(r"layers\.(\d+)\.(downsample)?", step.name)
    if match:
        merges = int(match[1]) + (match[2] is not None and step.kind != "padded")
    elif step.name in ("norm", "pooled"):
        merges = sum(name.endswith("downsample.neighbours") for name in steps)
    (ph, pw) = weight.value.shape[2:]
    return ph * 2**merges, pw * 2**merges

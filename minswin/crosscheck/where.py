"""Where in the model an element is, in the words of Swin, with the place in the image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minswin.crosscheck.recording import Step

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


def _window(step: Step, number: int) -> Pair:
    columns = step.geometry["grid"][1] // step.geometry["window"][1]
    return divmod(number, columns)


def _in_window(step: Step, token: int) -> Pair:
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
    real, image = _real_grid(step, steps), _image_size(steps)
    told = [_patch(p, side, image) if _inside(p, real) else "padding" for p in places]
    return f"image coordinates {' ↔ '.join(told)}" if told else ""


def _real_grid(step: Step, steps: Mapping[str, Step]) -> Pair | None:
    """Rows and columns of the map without its padding; None where nothing is padded."""
    if step.kind == "padded":
        return steps[step.inputs[0]].value.shape[1:3]
    if "H" in step.geometry and "grid" in step.geometry:
        return step.geometry["H"], step.geometry["W"]
    return None


def _inside(place: Pair, real: Pair | None) -> bool:
    return real is None or (place[0] < real[0] and place[1] < real[1])


def _image_size(steps: Mapping[str, Step]) -> Pair | None:
    return steps["image"].value.shape[2:] if "image" in steps else None


def _on_map(step: Step, window: int, token: int) -> Pair:
    (Mh, Mw), (row, column) = step.geometry["window"], _window(step, window)
    r, c = _in_window(step, token)
    return _unrolled(step, row * Mh + r, column * Mw + c)


def _unrolled(step: Step, row: int, column: int) -> Pair:
    (H, W), (sh, sw) = step.geometry["grid"], step.geometry["shift"]
    return (row + sh) % H, (column + sw) % W


def _patch(place: Pair, side: Pair, image: Pair | None) -> str:
    """The pixels of a token; behind an odd merge the last ones reach beyond the image."""
    spans = []
    for at, length, end in zip(place, side, image or (10**9, 10**9), strict=True):
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

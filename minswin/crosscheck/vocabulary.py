"""What the steps of a forward pass are called, what their axes mean, and the formula of each.

A row of VOCABULARY is found by where an operation stands in the run (see watch.Place): the text,
the operation, and how often that operation came before in the same call of the text. An operation
without a row is hidden if it only moves data, and goes by its own name otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

from minswin.watch import Place


class Word(NamedTuple):
    """How a step is written: the last part of its name, its axes, its formula."""

    name: str  # "" for a step that is called like its layer
    axes: tuple[str, ...]
    formula: str


# Only move data: hidden without a row.
MOVES = {"reshape", "transpose", "getitem", "roll", "pad", "window_partition", "window_merge"}

MAP = ("image", "row", "column", "channel")
ROLLED = ("image", "rolled row", "rolled column", "channel")
WINDOWS = ("image", "window", "token", "channel")
HEADS = ("image", "window", "head", "token", "feature")
PAIRS = ("image", "window", "head", "query", "key")
VECTOR = ("image", "channel")
TOKENS = ("image", "token", "channel")

_PARTITION = "window w = (row // Mh) · (W / Mw) + column // Mw, token t = (row % Mh) · Mw + …"
_WINDOW_TEXT = "shifted_window_attention"

VOCABULARY: dict[tuple[str, str, int], Word | None] = {  # None: hidden
    # ── an image becomes a map of tokens ──
    ("Conv2d.__call__", "conv2d", 0): Word(
        "", ("image", "channel", "row", "column"), "Σ weight · pixels of the patch + bias"
    ),
    ("PatchEmbed.__call__", "transpose", 0): Word("patches", MAP, "channels last"),
    ("LayerNorm.__call__", "layer_norm", 0): Word("", MAP, "γ (x − mean) / √(var + ε) + β"),
    ("SwinTransformer.embed", "add", 0): Word("positioned", MAP, "patches + positions"),
    # ── a block ──
    ("SwinBlock.__call__", "add", 0): Word("residual", MAP, "x + attention(norm1(x))"),
    ("SwinBlock.__call__", "add", 1): Word("output", MAP, "residual + mlp(norm2(residual))"),
    ("pad_map", "pad", 0): Word("padded", MAP, "zeros at the bottom and right"),
    ("crop_map", "getitem", 0): Word("cropped", MAP, "without the padding"),
    ("Linear.__call__", "linear", 0): Word("", MAP, "x Wᵀ + b"),
    ("mlp", "linear", 0): Word("fc1", MAP, "x W₁ᵀ + b₁"),
    ("mlp", "gelu", 0): Word("gelu", MAP, "x Φ(x), Φ(x) = (1 + erf(x / √2)) / 2"),
    ("mlp", "linear", 1): Word("fc2", MAP, "x W₂ᵀ + b₂"),
    ("Mlp.__call__", "mlp", 0): Word("fc2", MAP, "W₂ gelu(W₁ x + b₁) + b₂"),
    # ── attention in windows ──
    (_WINDOW_TEXT, "roll", 0): Word("shifted", ROLLED, "shifted[r, c] = qkv[r + s, c + s]"),
    (_WINDOW_TEXT, "window_partition", 0): Word("windows", WINDOWS, _PARTITION),
    ("split_heads", "getitem", 0): Word("q", HEADS, "channels [0, C), head h: [h d, (h + 1) d)"),
    ("split_heads", "getitem", 1): Word("k", HEADS, "channels [C, 2C)"),
    ("split_heads", "getitem", 2): Word("v", HEADS, "channels [2C, 3C)"),
    ("relative_position_bias", "take", 0): None,  # on the way to the bias
    ("relative_position_bias", "transpose", 0): Word(
        "bias", ("head", "query", "key"), "table[(rₚ − r_q + Mh − 1)(2Mw − 1) + cₚ − c_q + Mw − 1]"
    ),
    (_WINDOW_TEXT, "add", 0): Word(
        "bias_and_mask",
        ("window", "head", "query", "key"),
        "bias + (0 if query and key are of one region, else −100)",
    ),
    ("spelled_out", "multiply", 0): None,  # on the way to the scores
    ("spelled_out", "matmul", 0): Word("scores", PAIRS, "(q / √d) kᵀ"),
    ("spelled_out", "add", 0): Word("logits", PAIRS, "scores + bias + mask"),
    ("spelled_out", "softmax", 0): Word("probabilities", PAIRS, "exp(l) / Σ exp(l) over the keys"),
    ("spelled_out", "matmul", 1): Word("heads", HEADS, "probabilities · v"),
    (_WINDOW_TEXT, "attention", 0): Word("heads", HEADS, "softmax(q kᵀ / √d + bias) v"),
    ("attend", "attention", 0): Word("heads", HEADS, "softmax(q kᵀ / √d + bias) v"),
    ("merge_heads", "reshape", 0): Word("merged", WINDOWS, "channel = head · d + feature"),
    (_WINDOW_TEXT, "window_merge", 0): Word("rolled", ROLLED, "the windows back in their places"),
    (_WINDOW_TEXT, "roll", 1): Word("map", MAP, "map[r + s, c + s] = rolled[r, c]"),
    ("WindowAttention.shifted_windows", _WINDOW_TEXT, 0): Word(
        "map", MAP, "windows, attention and back"
    ),
    # ── merging and the end ──
    ("PatchMerging.__call__", "patch_merge", 0): Word(
        "neighbours", MAP, "[x(0,0), x(1,0), x(0,1), x(1,1)] of each 2×2, row offset fastest"
    ),
    ("SwinTransformer.__call__", "mean", 0): Word("pooled", VECTOR, "mean over all tokens"),
    ("loss", "cross_entropy", 0): Word("loss", (), "mean over images of −log softmax(x)[label]"),
}

# Constants: arrays that the model computes from the geometry, by where they enter.
CONSTANTS: dict[tuple[str, str, int], Word] = {
    (_WINDOW_TEXT, "add", 1): Word("mask", ("window", "", "query", "key"), "0, or −100"),
    ("relative_position_bias", "take", 1): Word("index", ("query", "key"), "row of the table"),
}


def word(place: Place, op: str) -> Word | None:
    """The row of the next such operation at a place, or None where it stays hidden."""
    key = place.text, op, place.count[op]
    if op == "window_merge" and not place.count["roll"]:  # nothing is rolled back
        return VOCABULARY[_WINDOW_TEXT, "roll", 1]
    if key in VOCABULARY or op in MOVES:
        return VOCABULARY.get(key)
    return Word(f"{op}_{key[2]}" if key[2] else op, (), op)


def axes_of(found: Word, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The axes as they are: a linear layer takes vectors and tokens as well as maps."""
    forms = [found.axes, tuple(axis for axis in found.axes if axis != "window")]
    if found.axes == MAP:
        forms += [VECTOR, TOKENS]
    return next((axes for axes in forms if len(axes) == len(shape)), ())

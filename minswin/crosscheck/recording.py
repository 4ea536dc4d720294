"""Watch an ordinary forward and backward pass: every step by name, its value and its cotangent.

No model knows of this. A row of VOCABULARY says what a step is called, what its axes mean, and its
formula. It is found by where an operation stands in the run (see watch.Place): the text, the
operation, and how often that operation came before in the same call of the text. An operation
without a row is hidden if it only moves data, and goes by its own name otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minswin.around import goes_alone
from minswin.arrays import Array, Definition, Vjp
from minswin.autograd import Run, Tensor, wrap_vjp
from minswin.composites import spelled_out
from minswin.layers.base import Layer
from minswin.watch import Operation, Place, paths_of, text_of

# ── words ────────────────────────────────────────────────────────────────────────────────────────


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


# ── a pass ───────────────────────────────────────────────────────────────────────────────────────

STARTS = ("input", "parameter")  # what a pass begins with
GIVEN = (*STARTS, "constant")  # known to both sides


@dataclass
class Step:
    """One named array of a pass, and how it came about."""

    name: str  # layers.0.blocks.1.attn.logits
    kind: str  # logits: what it is, wherever it stands
    op: str  # add: the operation, or "input", "parameter", "constant"
    value: Array
    inputs: tuple[str, ...] = ()  # the named steps that it was made of
    axes: tuple[str, ...] = ()  # the meaning of each axis
    formula: str = ""
    line: str = ""  # minswin/composites.py:109
    code: str = ""  # the text of that line
    settings: dict[str, Any] = field(default_factory=dict)  # of the operation, such as eps
    cotangent: Array | None = None  # ∂loss / ∂value, after backward


Hold = Callable[[Step, "Operation | None"], "Array | None"]
HoldGradient = Callable[[Step, Array], Array]


class Naming:
    """A step around operations: each result has a name, and another may stand in its place.

    layers: names by ids, see watch.paths_of   hold: is shown each named step as it is made, with
    its operation, None for constants; what it gives back stands in the place of the step's value
    from there on   hold_gradient: the same for a cotangent, before it is handed back   known:
    values of steps, which are not computed
    """

    watches = True  # so that no layer is computed, and named, twice: see watch.is_watched

    def __init__(
        self,
        layers: Mapping[int, str],
        *,
        hold: Hold = lambda *_: None,
        hold_gradient: HoldGradient = lambda _, g: g,
        known: Mapping[str, Array] | None = None,
    ) -> None:
        self.steps: dict[str, Step] = {}
        self._layers, self._known = layers, known or {}
        self._hold, self._hold_gradient = hold, hold_gradient
        self._places: dict[int, Place] = {}  # by the ids of calls, which they keep alive

    def __call__(
        self, go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        op = getattr(definition, "__name__", "operation")
        call = text_of(sys._getframe(1))
        place = self._places.get(id(call))
        if place is None:
            place = self._places[id(call)] = Place(call, self._layers)
        inputs = tuple(self._constant(place, op, i, x) for i, x in enumerate(inputs))
        found = word(place, op)
        name = self._unused(place, found, op) if found is not None else ""
        if name in self._known:
            go = partial(lambda known, *_: known, Tensor(self._known[name]))
        result, alone = goes_alone(self, go, definition, inputs, settings)
        if alone:  # else its own operations have been seen
            place.count[op] += 1
            self._made(place, name, found, Operation(op, place.layer, inputs, settings, result))
        return result

    def _made(self, place: Place, name: str, found: Word | None, operation: Operation) -> None:
        if found is None:
            return
        step, result = self._step(place, name, found, operation), operation.result
        held = self._enter(step, operation)
        result.data = result.data if held is None else held
        wrap_vjp(result, partial(self._seeing_gradient, step))

    def _constant(self, place: Place, op: str, position: int, x: Any) -> Any:
        """An input, named where it is a constant, and as it is held where it is."""
        found = CONSTANTS.get((place.text, op, position))
        if found is None or isinstance(x, Tensor):
            return x
        constant = Operation("constant", place.layer, (), {}, Tensor(x))
        name = self._unused(place, found, op)
        held = self._enter(self._step(place, name, found, constant), None)
        return x if held is None else held

    def _step(self, place: Place, name: str, found: Word, operation: Operation) -> Step:
        return Step(name, found.name, operation.name, operation.value)

    def _enter(self, step: Step, operation: Operation | None) -> Array | None:
        self.steps[step.name] = step
        return self._hold(step, operation)

    def _seeing_gradient(self, step: Step, vjp: Vjp) -> Vjp:
        def pull(g: Array) -> tuple[Any, ...]:
            step.cotangent = g
            return vjp(self._hold_gradient(step, g))

        return pull

    def _unused(self, place: Place, found: Word, op: str) -> str:
        """The name in the layer, or with a number behind it where the layer is called again."""
        name = f"{place.layer or ''}.{found.name}".strip(".") or op
        if name not in self.steps:
            return name
        return next(n for i in range(2, sys.maxsize) if (n := f"{name}#{i}") not in self.steps)


class Recording(Naming):
    """The steps of a pass in the order in which they were made: inputs and parameters first.

    held: see Naming
    """

    def __init__(self, model: Layer, **held: Any) -> None:
        super().__init__(paths_of(model), **held)
        # the named steps behind an array, by its id; the array is held, so that its id stays
        self._sources: dict[int, tuple[Array, tuple[str, ...]]] = {}
        self._tensors: list[tuple[Step, Tensor]] = []
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.given(name, tensor, "parameter")

    def given(
        self, name: str, x: Tensor | Array, op: str = "input", axes: tuple[str, ...] = ()
    ) -> None:
        """Name an array that the pass starts from."""
        array = x.data if isinstance(x, Tensor) else x
        self.steps[name] = step = Step(name, name.rsplit(".", 1)[-1], op, array, axes=axes)
        self._sources[id(array)] = array, (name,)
        if isinstance(x, Tensor):
            self._tensors.append((step, x))

    def end(self) -> None:
        """Take over the gradients of inputs and parameters, and let the calls and theirs go."""
        for step, tensor in self._tensors:
            step.cotangent = tensor.grad
        self._places.clear()

    def behind(self, *inputs: Any) -> tuple[str, ...]:
        """The named steps that Tensors or arrays are, or were made of without another name."""
        arrays = (x.data if isinstance(x, Tensor) else x for x in inputs)
        known = (self._sources.get(id(x), (x, ()))[1] for x in arrays)
        return tuple(dict.fromkeys(name for names in known for name in names))

    def _made(self, place: Place, name: str, found: Word | None, operation: Operation) -> None:
        if found is None:  # hidden: it stands for what it was made of
            self._sources[id(operation.value)] = operation.value, self.behind(*operation.inputs)
        super()._made(place, name, found, operation)

    def _step(self, place: Place, name: str, found: Word, operation: Operation) -> Step:
        axes = axes_of(found, operation.value.shape)
        plain = {k: v for k, v in operation.settings.items() if _is_plain(v)}
        return Step(
            name, found.name or place.kind, operation.name, operation.value,
            self.behind(*operation.inputs), axes, found.formula, place.line, place.code, plain,
        )  # fmt: skip

    def _enter(self, step: Step, operation: Operation | None) -> Array | None:
        held = super()._enter(step, operation)
        for x in (step.value, step.value if held is None else held):
            self._sources[id(x)] = x, (step.name,)
        return held


def spell_out(
    go: Run, definition: Definition, inputs: Sequence[Any], settings: dict[str, Any]
) -> Tensor:
    """The step around operations that runs attention as several: logits and probabilities show."""
    if getattr(definition, "__name__", "") == "attention":
        return spelled_out(*inputs)
    return go(definition, inputs, settings)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, (int, float, str)) and not isinstance(value, np.generic)

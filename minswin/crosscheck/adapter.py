"""The adapter: how `minswin conform` asks somebody's Swin. A module of plain functions.

Every function is optional; what is missing is reported as not covered, never as passed, and so is
what raises NotImplementedError. Where a `raise` or `assert` says no to one input and another one is
answered rightly, the first is refused; any other error differs. Arrays go in and come out as NumPy
arrays of the module's `dtype` (float64 where it says nothing); pairs are (rows, columns); a dict of
parameters has the original's names, and matrices (outputs, inputs).
`FUNCTIONS` is the protocol; `minswin conform --functions` prints it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Adapter", "Form", "adapter_of", "load_adapter", "protocol"]

DTYPES = ("float32", "float64")


class Form(NamedTuple):
    """How a function is called, by position, and what it gives."""

    arguments: tuple[str, ...]
    gives: str


# By their names: the arguments, and what is given.
_PROTOCOL = """
window_partition(x, window)
    x (B, H, W, C) cut into windows row by row: (B, H/Mh · W/Mw, Mh·Mw, C)
window_merge(windows, window, grid)
    the map (B, H, W, C) again, from (B, H/Mh · W/Mw, Mh·Mw, C)
roll(x, shift)
    y[r + shift₀, c + shift₁] = x[r, c], around the edges: (B, H, W, C)
relative_position_index(window)
    integers (N, N): (rₚ − r_q + Mh − 1)(2Mw − 1) + cₚ − c_q + Mw − 1; query p first
relative_position_bias(table, window)
    (h, N, N) from the table ((2Mh−1)(2Mw−1), h)
attention_mask(grid, window, shift)
    (windows, N, N): 0 where query and key come from one region, −100 or less elsewhere
patch_merge(x)
    (B, H/2, W/2, 4C): the neighbours (row, column) = (0,0), (1,0), (0,1), (1,1) side by side
layer_norm(x, weight, bias, eps)
    over the last axis; the variance divides by C
gelu(x)
    x (1 + erf(x/√2)) / 2
softmax(x)
    over the last axis
cross_entropy(logits, labels)
    the mean over the batch, one number
mlp(x, params)
    fc2(gelu(fc1(x))): x (B, N, C); fc1.*, fc2.*
patch_embed(image, params)
    image (B, 3, H, W) to (B, H/p, W/p, C); proj.weight (C, 3, p, p), proj.bias, norm.*
patch_merging(x, params)
    (B, ⌈H/2⌉, ⌈W/2⌉, 2C): zeros at odd edges, patch_merge, norm.*, reduction.weight
window_attention(x, params, window, shift, heads)
    x (B, H, W, C), qkv, windows, proj: (B, H, W, C). A map that the window does not divide gets
    zeros at the bottom and right, AFTER the norm and BEFORE the roll; they are cropped again.
    Channels of qkv: (3, heads, d). shift (0, 0): none. qkv.*, proj.*, relative_position_bias_table
block(x, params, window, shifted, heads)
    norm1.*, attn.*, norm2.*, mlp.*. A map whose shorter side is not larger than the window is not
    shifted, on either axis. shifted: whether by half the window. (B, H, W, C)
continuous_position_bias(params, window, pretrained)
    16 σ(cpb_mlp(t)): (h, N, N). pretrained: the window of the pre-training, or None
window_attention_v2(x, params, window, shift, heads)
    x (B, H, W, C), qkv, windows, proj: (B, H, W, C). A map that the window does not divide gets
    zeros at the bottom and right, AFTER the norm and BEFORE the roll; they are cropped again.
    Cosines times exp(min(logit_scale, ln 100)), the mask −100. qkv.weight, q_bias, v_bias,
    logit_scale, cpb_mlp.0.*, cpb_mlp.2.weight, proj.*
block_v2(x, params, window, shifted, heads)
    norm1.*, attn.*, norm2.*, mlp.*. A map whose shorter side is not larger than the window is not
    shifted, on either axis. The norms come after: (B, H, W, C)
patch_merging_v2(x, params)
    patch_merging with the norm after the reduction
model(config, state, image)
    logits (B, num_classes) of a Swin with these settings and weights; the names of both are the
    original's
build_model(config, state)
    a function image → logits: it is called again and again, to find a memory
model_v2(config, state, image)
    the same of a Swin V2
model_vit(config, state, image)
    the same of a ViT; global_pool "avg": no class token, the mean. ε is 1e-6
model_deit(config, state, image)
    of a DeiT with a distillation token: the mean of its two heads
model_tnt(config, state, image)
    of a TNT: inner_* is of words, outer_* of patches; legacy: timm's older variant
train_step(config, state, image, labels, lr)
    the state after one step of plain gradient descent on the mean cross-entropy
adamw(p, g, m, v, lr, beta1, beta2, eps, decay, t)
    {'p', 'm', 'v'} after step t = 1, 2, …; p ← (1 − lr · decay) p comes first
"""

_DERIVED = (
    "window_partition", "window_merge", "patch_merge", "relative_position_bias", "layer_norm",
    "gelu", "softmax", "cross_entropy", "mlp", "patch_embed", "patch_merging", "window_attention",
    "block", "continuous_position_bias", "window_attention_v2", "block_v2", "model",
    "model_vit", "model_tnt",
)  # fmt: skip


def _functions() -> dict[str, Form]:
    found: dict[str, Form] = {}
    for name, arguments, gives in re.findall(r"^(\w+)\((.*)\)\n((?: .*\n)+)", _PROTOCOL, re.M):
        found[name] = Form(tuple(arguments.split(", ")), " ".join(gives.split()))
    for name in _DERIVED:
        found[f"{name}_grad"] = Form(
            (*found[name].arguments, "cotangent"),
            f"the gradients of ⟨cotangent, {name}⟩ by every array: a dict, by argument and by the "
            "names inside params or state",
        )
    return found


FUNCTIONS = _functions()


@dataclass(frozen=True)
class Adapter:
    """The functions that a module offers, by the names of the protocol."""

    name: str
    functions: Mapping[str, Callable[..., Any]]
    dtype: np.dtype[Any]
    notes: tuple[str, ...] = ()  # what a reader of the report should know

    def lacks(self, names: Sequence[str]) -> str:
        """Which of these functions it has not, in words; "" where it has all."""
        absent = [name for name in names if name not in self.functions]
        return f"the adapter has no {' and no '.join(absent)}" if absent else ""


def load_adapter(name: str, dtype: str | None = None) -> Adapter:
    """The adapter of a module, by its dotted name or by the path of its file."""
    return adapter_of(_import(name), name, dtype)


def adapter_of(module: Any, name: str, dtype: str | None = None) -> Adapter:
    """The adapter that a module, or any object with functions, is."""
    own = {key: getattr(module, key) for key in FUNCTIONS if getattr(module, key, None) is not None}
    functions = {key: value for key, value in own.items() if callable(value)}
    unknown = _unknown(module).items()
    if not functions:
        raise ValueError(
            f"conform: {name} defines none of the functions of the protocol; "
            "see 'minswin conform --functions'"
            + "".join(f"; did you mean {near} by {key}?" for key, near in unknown)
        )
    notes = [
        f"{key} is no function but {type(value).__name__}: not covered"
        for key, value in own.items()
        if key not in functions
    ]
    notes += [f"{key} is no function of the protocol; did you mean {n}?" for key, n in unknown]
    given = dtype if dtype is not None else getattr(module, "dtype", "float64")
    try:
        kind = np.dtype(given)
    except TypeError:
        kind = np.dtype(object)
    if kind not in DTYPES:
        raise ValueError(f"conform: {name}: dtype must be float32 or float64, got {given!r}")
    return Adapter(name, functions, kind, tuple(notes))


def _unknown(module: Any) -> dict[str, str]:
    """Public functions of a module that look like one of the protocol."""
    found: dict[str, str] = {}
    for key, value in vars(module).items():
        if key.startswith("_") or key in FUNCTIONS or not callable(value):
            continue
        near = difflib.get_close_matches(key, FUNCTIONS, 1, 0.8)
        if near and getattr(value, "__module__", None) == getattr(module, "__name__", ""):
            found[key] = near[0]
    return found


def _import(name: str) -> ModuleType:
    path = Path(name)
    meant = name.endswith(".py") or "/" in name or "\\" in name  # a file, not a module
    if meant and not path.is_file():
        raise FileNotFoundError(f"conform: there is no file {name}; give --module a Python module")
    if "" not in sys.path:  # as `python -m` has it, so that a module of this folder is found
        sys.path.insert(0, "")
    try:
        return _from_file(path) if path.is_file() else importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ImportError(
            f"conform: importing {name} raised {type(error).__name__}: {error}"
        ) from error


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # it may import its neighbours
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def protocol() -> str:
    """The protocol as text: every function, its arguments and what it gives."""
    lines = []
    for name, form in FUNCTIONS.items():
        if not name.endswith("_grad"):
            lines += [f"{name}({', '.join(form.arguments)})", f"    {form.gives}"]
    lines += ["f_grad(the arguments of f, cotangent), where f is one of"]
    lines += [f"    {', '.join(_DERIVED)}", "    gives a dict: a gradient for every array of f,"]
    lines += ["    by the name of the argument, or by its name inside params or state"]
    return "\n".join(lines)

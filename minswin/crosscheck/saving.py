"""Save what a port gave, from any tree of arrays, for `minswin compare`.

    from minswin.crosscheck.saving import save

    y, seen = model.apply({"params": params}, image, capture_intermediates=True)   # Flax
    grads = jax.grad(loss)(params)
    save("theirs.npz", {**seen["intermediates"], "logits": y}, weights=params, cotangent=grads)

NumPy, JAX, TensorFlow and MLX arrays are taken, in dicts, lists, tuples and objects with fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minswin.arrays import Array, as_array
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES
from minswin.weights.files import save_weights

__all__ = ["flattened", "save"]


def save(
    file: Path | str,
    values: Any,
    *,
    weights: Any = None,
    cotangent: Any = None,
    after: Any = None,
    losses: Any = None,
) -> list[str]:
    """Write arrays of trees to an .npz file, by their paths with dots; gives the names.

    values: what layers gave   weights: by the names of their layers, which they tell even where a
    value is wrong   cotangent: gradients of the loss, of weights or of what layers gave
    after: weights after the optimizer's steps   losses: before the first of them and after each
    """
    if not str(file).endswith(".npz"):
        raise ValueError(f"save: the file must end with .npz, got {str(file)!r}")
    found = dict(flattened(values))
    for prefix, tree in (("", weights), (COTANGENT, cotangent), (AFTER, after)):
        more = {prefix + name: x for name, x in flattened({} if tree is None else tree)}
        if twice := found.keys() & more:
            raise ValueError(f"save: {min(twice)} is a value and a weight; name one otherwise")
        found |= more
    if losses is not None:
        found[LOSSES] = np.asarray([float(x) for x in losses])
    if not found:
        raise ValueError(f"save: there is no array in what is to be written to {file}")
    save_weights(file, found)
    return list(found)


def flattened(tree: Any, path: str = "") -> Iterator[tuple[str, Array]]:
    """The arrays of a tree by their paths: {"a": [x, y]} holds a.0 and a.1.

    A tuple or list of one array is that array, and __call__, which Flax writes, is left out.
    """
    if tree is None:
        return
    children = _children(tree)
    if children is None and (array := array_of(tree, path)) is not None:
        yield path or "output", array
    for key, child in children or ():
        single = key == "__call__" or (key == "0" and len(children or ()) == 1)
        yield from flattened(child, path if single else f"{path}.{key}".lstrip("."))


def _children(tree: Any) -> list[tuple[str, Any]] | None:
    """What a container holds, by keys; None where it is no container."""
    if isinstance(tree, Mapping):
        return [(str(key), child) for key, child in tree.items()]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type) and not hasattr(tree, "dtype"):
        return [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree)]
    if hasattr(tree, "_fields"):
        return [(name, getattr(tree, name)) for name in tree._fields]
    if isinstance(tree, (list, tuple)) and not all(isinstance(x, (int, float)) for x in tree):
        return [(str(i), child) for i, child in enumerate(tree)]
    return None


def array_of(x: Any, path: str = "") -> Array | None:
    """As NumPy has it: bfloat16, which it has not, in float32; None for what is no number."""
    if isinstance(x, (str, bytes)) or callable(x):
        return None
    array = as_array(x)
    if array.dtype.kind == "V" or str(array.dtype) in ("bfloat16", "float8_e4m3fn"):
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"save: {path or 'the tree'} is {type(x).__name__}, expected numbers")
    return array

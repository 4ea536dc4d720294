"""Finds the state dict inside the object that a .pth file holds, and loads its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minswin.weights.mapped import STORED, BadFile, MappedFile, require_plausible, short
from minswin.weights.pickle_machine import Foreign
from minswin.weights.torch_tensors import TorchFile, View

WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "net", "params")


def find_state(tree: object, key: str | None) -> tuple[dict[str, View], str]:
    """The tensors by name, and the wrapper that they were found under ("" for none).

    What is not a tensor is left out, except for foreign objects: one of them may be a tensor.
    """
    wrapper = ""
    if key is not None:
        tree, wrapper = _under(tree, key), key
    for _ in range(4):
        inner = next((name for name in WRAPPERS if _is_state(tree, name)), None)
        if inner is None:
            break
        tree, wrapper = tree[inner], f"{wrapper}.{inner}".strip(".")  # type: ignore[index]
    if isinstance(tree, Foreign):
        raise BadFile(
            f"holds a whole object of the class {short(tree.name)}, which only its own library "
            "can read; load it there and save its state_dict()"
        )
    if not isinstance(tree, dict):
        what = "single tensor" if isinstance(tree, View) else type(tree).__name__
        raise BadFile(f"holds a {what}, expected tensors by name")
    state = {}
    for name, value in tree.items():
        if isinstance(value, Foreign):
            raise BadFile(
                f"has {short(name)} as an object of the class {short(value.name)}, which is not "
                "read; load it where that class is known and save plain tensors"
            )
        if isinstance(value, View) and isinstance(name, str):
            state[name] = value
    if not state:
        found = ", ".join(short(name) for name in list(tree)[:12]) or "nothing"
        raise BadFile(
            f"has no tensors where they are expected; found: {found}. Choose with key= (--key)"
        )
    return state, wrapper


def _is_state(tree: object, name: str) -> bool:
    inner = tree.get(name) if isinstance(tree, dict) else None
    return isinstance(inner, dict) and any(isinstance(v, View | dict) for v in inner.values())


def _under(tree: object, key: str) -> object:
    found = list(tree)[:12] if isinstance(tree, dict) else []
    if not isinstance(tree, dict) or key not in tree:
        names = ", ".join(short(name) for name in found) or "nothing"
        raise BadFile(f"has no entry {short(key)}; found: {names}")
    return tree[key]


def load_state(content: TorchFile, state: Mapping[str, View], file: MappedFile) -> dict[str, Any]:
    size = sum(math.prod(view.shape) * STORED[view.kind].itemsize for view in state.values())
    require_plausible(size, file, f"{len(state):,} tensors")
    return {name: content.array(view) for name, view in state.items()}

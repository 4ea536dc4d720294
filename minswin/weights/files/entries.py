"""Finds the arrays inside what a file or a caller holds: under wrappers, or under a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minswin.weights.files.mapped import BadFile, short

WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "net", "params")

Test = Callable[[object], bool]


def find_arrays(tree: object, key: str | None, is_array: Test) -> tuple[object, str]:
    """The entry that holds arrays by name, and the names of the wrappers around it ("" for none).

    key: an entry, "a.b" for one inside another, or what all names wanted begin with
    Without a key: the entries of WRAPPERS, or the only one that holds arrays.
    """
    wrapper = ""
    if key is not None:
        tree, wrapper = entry(tree, key), key
    for _ in range(4):
        inner = _inner(tree, is_array)
        if inner is None:
            break
        tree, wrapper = tree[inner], f"{wrapper}.{inner}".strip(".")  # type: ignore[index]
    return tree, wrapper


def _inner(tree: object, is_array: Test) -> str | None:
    if not isinstance(tree, Mapping):
        return None
    for name in WRAPPERS:
        inner = tree.get(name)
        if isinstance(inner, Mapping) and any(
            is_array(x) or isinstance(x, Mapping) for x in inner.values()
        ):
            return name
    holders = entries_with_arrays(tree, is_array)
    alone = len(holders) == 1 and not any(map(is_array, tree.values()))
    return holders[0] if alone else None


def entries_with_arrays(tree: Mapping[str, Any], is_array: Test) -> list[str]:
    """The entries whose values are arrays by name."""
    return [
        name
        for name, inner in tree.items()
        if isinstance(name, str)
        and isinstance(inner, Mapping)
        and any(map(is_array, inner.values()))
    ]


def entry(tree: object, key: str) -> object:
    """What lies under a key; of flat names, those that begin with it."""
    if not isinstance(key, str):
        raise TypeError(f"key must be the name of an entry, got {type(key).__name__}")
    if isinstance(tree, Mapping):
        key = key if key in tree else key.rstrip("./")
        if key in tree:
            return tree[key]
        first, dot, rest = key.partition(".")
        if dot and isinstance(tree.get(first), Mapping):
            return entry(tree[first], rest)
        starts = (f"{key}.", f"{key}/")
        texts = [name for name in tree if isinstance(name, str) and name.startswith(starts)]
        if texts:
            return {name[len(key) + 1 :]: tree[name] for name in texts}
    raise BadFile(f"has no entry {short(key)}; found: {names_in(tree)}")


def names_in(tree: object) -> str:
    """The entries of a dictionary, or what its many names begin with, as an error shows them."""
    names = [name for name in tree if isinstance(name, str)] if isinstance(tree, Mapping) else []
    if len(names) > 12:
        names = list(dict.fromkeys(name.replace("/", ".").split(".")[0] for name in names))
    more = f", … ({len(names):,})" if len(names) > 12 else ""
    return ", ".join(short(name) for name in names[:12]) + more or "nothing"


def nothing_found(tree: object, is_array: Test) -> BadFile:
    """The error for a dictionary without arrays by name."""
    holders = entries_with_arrays(tree, is_array) if isinstance(tree, Mapping) else []
    which = f"; {' or '.join(map(short, holders[:8]))} hold tensors" if holders else ""
    return BadFile(
        f"has no tensors where they are expected; found: {names_in(tree)}. "
        f"Choose with key= (--key){which}"
    )

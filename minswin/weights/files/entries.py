"""Finds the arrays in what a file or a caller holds: under wrappers, under a key, in several files.

Arrays and tensors of other libraries become NumPy's; none of the libraries is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minswin import arrays
from minswin.arrays import to_numpy
from minswin.autograd import Tensor
from minswin.weights.files.mapped import BadFile, short

WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "net", "params")
INDEX_LIMIT = 100_000_000  # bytes of the JSON text of an index
SHARDS = 10_000

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


# ── arrays of any library ─────────────────────────────────────────────────────────────────────────


def is_array(value: object) -> bool:
    """Whether NumPy, CuPy, torch, JAX, TensorFlow or the like made it."""
    return isinstance(value, (np.ndarray, np.generic, Tensor)) or hasattr(value, "__array__")


def as_array(value: Any, *, who: str, name: str) -> np.ndarray:
    """One array as NumPy's. Raises TypeError for anything else."""
    if not is_array(value):
        raise TypeError(
            f"{who}: {name} is a {type(value).__name__}, expected an array; "
            "leave out what is no weight"
        )
    return to_numpy(arrays.as_array(value.data if isinstance(value, Tensor) else value))


# ── weights in several files ──────────────────────────────────────────────────────────────────────


def is_index(path: Path) -> bool:
    """Whether a file is an index, by its ending: a JSON text that gives the file of every name."""
    return path.suffix == ".json"


def read_index(path: Path) -> dict[Path, list[str]]:
    """The files, which lie beside the index, and the names that each must hold.

    Raises BadFile for what is no index, FileNotFoundError for files that are not there
    """
    if path.stat().st_size > INDEX_LIMIT:
        raise BadFile(f"is a JSON text of more than {INDEX_LIMIT:,} bytes; no index is as long")
    shards: dict[Path, list[str]] = {}
    for name, file in _weight_map(path.read_bytes()).items():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or "\0" in file:
            raise BadFile(f"has {short(name)} in {short(file)}, which is no file beside it")
        shards.setdefault(path.with_name(file), []).append(name)
    if not 0 < len(shards) <= SHARDS:
        raise BadFile(f"lists {len(shards):,} files, expected 1 to {SHARDS:,}")
    missing = [file.name for file in shards if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FileNotFoundError(
            f"read_weights: {path} lists {len(shards)} files, and {missing[0]}{more} cannot be "
            "found beside it; fetch it into that folder"
        )
    return shards


def _weight_map(content: bytes) -> dict[str, Any]:
    try:
        table = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise BadFile("nests too deep for an index; it is damaged or hostile") from None
    except ValueError as error:
        raise BadFile(f"is no JSON text ({short(str(error))}); it is damaged") from None
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict):
        raise BadFile(
            "is a JSON text without a weight_map; expected the file of weights beside it, or "
            "their index, such as model.safetensors.index.json"
        )
    return names

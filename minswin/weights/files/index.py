"""Weights in several files: a JSON text that gives for every name the file that holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minswin.weights.files.mapped import BadFile, short

LIMIT = 100_000_000  # bytes of the JSON text
SHARDS = 10_000


def is_index(path: Path) -> bool:
    """Whether a file is such a text, by its ending."""
    return path.suffix == ".json"


def read_index(path: Path) -> dict[Path, list[str]]:
    """The files, which lie beside the index, and the names that each must hold.

    Raises BadFile for what is no index, FileNotFoundError for files that are not there
    """
    if path.stat().st_size > LIMIT:
        raise BadFile(f"is a JSON text of more than {LIMIT:,} bytes; no index is as long")
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

"""Where an operation stands: the layer, the function of the text, the line, the geometry."""

from __future__ import annotations

import linecache
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from minswin.layers.base import Layer

PACKAGE = Path(__file__).parents[1]
# All other files are texts.
MACHINERY = {"around.py", "autograd.py", "lifting", "ops.py", "watch.py", "kernels", "reference"}
GEOMETRY = ("grid", "window", "shift", "heads", "table_window", "H", "W")


class Place:
    """Where an operation stands: the layer, the function of the model's text, the line."""

    def __init__(self, frame: FrameType, layers: dict[int, str]) -> None:
        self.frame = frame
        own = _self_of(frame)
        prefix = f"{type(own).__name__}." if isinstance(own, Layer) else ""
        self.function = prefix + frame.f_code.co_name
        self.self: Any = None
        self.layer = ""
        outer: FrameType | None = frame
        while outer is not None:
            owner = _self_of(outer)
            if owner is not None and id(owner) in layers:
                self.self, self.layer = owner, layers[id(owner)]
                break
            outer = outer.f_back

    @property
    def line(self) -> str:
        return f"{_short(self.frame.f_code.co_filename)}:{self.frame.f_lineno}"

    @property
    def code(self) -> str:
        return linecache.getline(self.frame.f_code.co_filename, self.frame.f_lineno).strip()

    @property
    def geometry(self) -> dict[str, Any]:
        """Grid, window, shift and heads, as the texts of this layer know them."""
        found: dict[str, Any] = {}
        outer: FrameType | None = self.frame
        met = False  # a text of this layer
        while outer is not None:
            owner = _self_of(outer)
            if met and owner is not self.self:
                break  # above the calls of this layer
            if names := _names(outer.f_code, GEOMETRY):
                values = outer.f_locals  # a new dict each time, which takes long
                known = {k: values[k] for k in names if is_plain(values.get(k))}
                found = {**known, **found}
            met = met or (self.self is not None and owner is self.self)
            outer = outer.f_back
        return found


def _self_of(frame: FrameType) -> Any:
    """The `self` of a text, or None."""
    return frame.f_locals.get("self") if _names(frame.f_code, ("self",)) else None


@lru_cache(maxsize=1024)
def _names(code: CodeType, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these names that variables of a text have; none of another function."""
    own = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
    return tuple(name for name in wanted if name in own and _is_file_of_texts(code.co_filename))


def is_text(frame: FrameType) -> bool:
    return _is_file_of_texts(frame.f_code.co_filename)


@lru_cache
def _is_file_of_texts(name: str) -> bool:
    file = Path(name)
    if not file.is_relative_to(PACKAGE):
        return True
    return file.relative_to(PACKAGE).parts[0] not in MACHINERY and file.name != "recording.py"


@lru_cache
def _short(file: str) -> str:
    """The path of a file of minswin from the package on; of any other file the name."""
    path = Path(file)
    return (
        path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else path.name
    )


def is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(is_plain(part) for part in value)
    return isinstance(value, (int, float, str)) and not isinstance(value, np.generic)

"""timm wants torchvision, of which a Swin needs nothing: here it gets a stand-in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from .base import need


@cache
def load_timm() -> Any:
    """timm, imported with a stand-in for torchvision where that is not installed."""
    if find_spec("torchvision") is None and find_spec("timm") is not None:
        with _torchvision_stand_in():
            return need("timm")
    return need("timm")


@contextmanager
def _torchvision_stand_in() -> Iterator[None]:
    """Empty modules that have every name; taken away again, or transformers would believe them."""
    parts = ("", ".transforms", ".transforms.functional", ".datasets", ".ops", ".ops.misc")
    names = [f"torchvision{part}" for part in (*parts, ".models", ".models.feature_extraction")]
    for name in names:
        sys.modules[name] = _EmptyModule(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


class _EmptyModule(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # what makes a module a package

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _EmptyClass(name, (), {})


class _EmptyClass(type):
    def __getattr__(cls, name: str) -> str:  # the members of an enumeration
        if name.startswith("__"):
            raise AttributeError(name)
        return name

"""Submodules that are imported at their first use: `minswin.weights` after `import minswin`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from typing import Any


def submodules(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package, for the modules in its folder.   PEP 562, SPEC 1"""
    module = sys.modules[package]

    def names() -> set[str]:
        return {found.name for found in pkgutil.iter_modules(module.__path__)} - {"__main__"}

    def get(name: str) -> Any:
        if not name.startswith("_") and name in names():
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)

    def listed() -> list[str]:
        return sorted({*vars(module), *names()})

    return get, listed

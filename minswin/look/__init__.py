"""Pictures: functions that draw into matplotlib axes. The page of `minswin explain` is in page/."""

from typing import TYPE_CHECKING

from minswin import lazy

__all__ = [
    "attention",
    "canvas",
    "cost",
    "curves",
    "features",
    "masks",
    "planes",
    "positions",
    "receptive",
    "tables",
    "windows",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)

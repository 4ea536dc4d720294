"""Pictures. Each function draws into matplotlib axes that it is given; files are saved aside."""

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

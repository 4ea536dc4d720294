"""Cross-check: which tensor of another implementation is the first wrong one, and why."""

from typing import TYPE_CHECKING

from minswin import lazy

__all__ = ["adapter", "compare", "conform", "diagnose", "folder", "recipe", "trace"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)

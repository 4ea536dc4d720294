"""`minswin bench`: how fast this code is, as ratios to PyTorch measured in the same minutes."""

from typing import TYPE_CHECKING

from minswin import lazy

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)

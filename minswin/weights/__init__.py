"""Weights of other implementations: their files, read without torch and without running them.

A function stands here for the file of the same name.
"""

from minswin.weights.convert import convert, describe
from minswin.weights.dialect import dialect
from minswin.weights.files import Weights, read_file, read_weights, save_weights
from minswin.weights.load import load
from minswin.weights.names import rename

__all__ = [
    "Weights",
    "convert",
    "describe",
    "dialect",
    "load",
    "read_file",
    "read_weights",
    "rename",
    "save_weights",
]

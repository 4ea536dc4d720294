"""Weights of other implementations: their files, read without torch and without running them.

files/ has the formats, families/ what is known of each family of models: names, settings, buffers.
"""

from minswin.weights.convert import convert, describe
from minswin.weights.files import Weights, read_file, read_weights, save_weights
from minswin.weights.load import load
from minswin.weights.recognise import dialect
from minswin.weights.rename import rename

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

"""Evaluation mode for a while: who looks at a model gives it back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minswin.layers import Layer


@contextmanager
def evaluating(model: Layer) -> Iterator[None]:
    """Evaluation mode inside this block; afterwards each layer has its own mode again."""
    before = [(layer, layer.training) for layer in model.layers_within()]
    model.eval()
    try:
        yield
    finally:
        for layer, mode in before:
            layer.training = mode

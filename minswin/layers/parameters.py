"""Parameters and buffers, and the numbers that they begin with, as the original draws them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minswin.arguments import Seed, checks_switches, generator, switch
from minswin.autograd import Tensor

Dtype = Any  # whatever np.dtype() accepts


class Parameter(Tensor):
    """A Tensor that training changes.

    decays: whether weight decay pulls it towards zero; not so for embeddings of positions and of
    class tokens, and for tables of biases.
    left_out: a part that the model is built without; it stays 0, whatever is loaded.
    """

    __slots__ = ("decays", "left_out")

    def __init__(self, data: Any, *, decays: bool = True) -> None:
        super().__init__(data, requires_grad=True)
        self.decays = switch("Parameter", "decays", decays)
        self.left_out = False

    def leave_out(self) -> None:
        """Make it 0 for ever."""
        self.data[...] = 0
        self.requires_grad, self.left_out = False, True


class Buffer(Tensor):
    """Numbers that belong to the weights, though no gradient changes them: the layer itself does.

    They are saved and loaded like parameters; optimizers and `parameter_count` do not see them.
    """

    __slots__ = ()


class Init:
    """How parameters begin: `rng` draws them, and they are float32 or float64.

    A layer hands its `init` on to the layers inside it, so that all draw from one generator.
    """

    def __init__(self, rng: Seed = None, dtype: Dtype = np.float32, who: str = "Init") -> None:
        self.rng = generator(who, rng)
        try:
            self.dtype = np.dtype(dtype)
            known = self.dtype in (np.float32, np.float64)
        except TypeError:  # no dtype at all
            known = False
        if not known:
            raise TypeError(f"{who}: dtype must be float32 or float64, got {dtype}")

    @checks_switches
    def normal(self, *shape: int, spread: float = 0.02, decays: bool = True) -> Parameter:
        """Normal, mean 0, σ = 0.02: linear weights, bias tables, position embeddings.

        The original calls it "truncated normal" with bounds at ±2, which is ±100 σ: no truncation.
        """
        x = (spread * self.rng.standard_normal(shape)).astype(self.dtype)
        return Parameter(x, decays=decays)

    def uniform(self, *shape: int, fan_in: int) -> Parameter:
        """Uniform in ±1/√fan_in: the patch convolution keeps this default of PyTorch's."""
        bound = 1 / math.sqrt(fan_in)
        return Parameter(self.rng.uniform(-bound, bound, shape).astype(self.dtype))

    def zeros(self, *shape: int) -> Parameter:
        return Parameter(np.zeros(shape, self.dtype))

    def ones(self, *shape: int) -> Parameter:
        return Parameter(np.ones(shape, self.dtype))

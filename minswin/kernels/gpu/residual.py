"""x + drop_path(y) and the layer norm of it on the GPU: one kernel forward and one backward.

The text of a block says `x = x + self.drop_path(self.attn(…))`, and the next line, or the next
block, takes the norm of x. Here the dropout and the sum are postponed until somebody asks for their
numbers. If a layer norm is the first to ask, one kernel gives the sum and its norm, and backward
the norm's kernel gives the gradient of the branch too. Anybody else gets the sum, in one launch.
What is recorded for backward are the nodes of the text. Nobody may write into x or y before the sum
is computed, nor into what these are views of: only results of operations are taken, no leaves.
Where a step stands around operations (around.py) nothing is postponed, but for one on products.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from minswin.arrays import Array, array_module
from minswin.autograd import Tensor, record
from minswin.kernels import FUSIONS, fast
from minswin.kernels.gpu.dropout import dropout, dropped, scale_of
from minswin.kernels.gpu.launch import contiguous, same_float
from minswin.kernels.gpu.layer_norm import fits, layer_norm, normalised


class Drop:
    """A drop path: what `keep` (B, 1, …, 1) keeps, times `scale`. Its vjp holds no input."""

    def __init__(self, keep: Array, scale: Any) -> None:
        self.keep, self.scale = contiguous(keep), scale
        self.gradient: tuple[Array, Array] | None = None  # of a sum, and of the branch for that

    def __call__(self, x: Array, onto: Array | None = None) -> Array:
        return dropped(x, self.keep, self.scale, onto)

    def vjp(self, g: Array) -> tuple[Array, None]:
        """The norm has computed it already, if its gradient is all that the sum has got."""
        known, self.gradient = self.gradient, None
        return (known[1] if known is not None and known[0] is g else self(g)), None


class Postponed(Tensor):
    """residual + drop(branch), computed when `data` is first asked for.

    residual: None where there is no sum yet   drop: None where nothing is dropped
    stream: on which it was asked for, and is computed: there its inputs are ready, and their
    memory is given away only afterwards. A stream on which it is read waits for that.
    """

    __slots__ = ("array", "branch", "drop", "residual", "stream")

    def __init__(self, residual: Array | None, branch: Array, drop: Drop | None) -> None:
        self.requires_grad, self.grad, self._node = False, None, None
        self.residual, self.branch, self.drop = residual, branch, drop
        self.stream = _current_stream(branch)
        self.array: Array | None = None

    @property
    def data(self) -> Array:
        if self.array is None:
            reading, asked = _current_stream(self.branch), self.stream
            with self.branch.device:  # another may be current by now, as may a stream
                with asked:
                    if self.drop is None:
                        self.data = self.residual + self.branch
                    else:
                        self.data = self.drop(self.branch, self.residual)
                if reading != asked:  # an event is of the device on which it was made
                    reading.wait_event(asked.record())
        return self.array

    @data.setter
    def data(self, array: Array) -> None:
        """From now on it is any Tensor, and holds nothing else."""
        self.array, self.branch = array, array
        self.residual = self.drop = self.stream = None

    def is_asked_here(self) -> bool:
        """Whether the stream that it is computed on is the current one."""
        return bool(self.stream == _current_stream(self.branch))

    shape = property(attrgetter("branch.shape"))
    ndim = property(attrgetter("branch.ndim"))
    size = property(attrgetter("branch.size"))
    dtype = property(attrgetter("branch.dtype"))


# ── the three operations; None: the call is for the text, which also tells what is wrong ─────────


def _drop(*inputs: Any, **settings: Any) -> Tensor | None:
    """Drop path, postponed."""
    if len(inputs) != 2 or settings.keys() != {"rate"}:
        return None
    (x, keep), rate = inputs, settings["rate"]
    like = _like(x)
    if like is None or fast("dropout", like) is not dropout:
        return None
    if type(rate) is not float or not 0 <= rate < 1 or not _decides(keep, like):
        return None
    drop = Drop(keep, scale_of(like, rate))
    return record("dropout", (x, None), Postponed(None, contiguous(x.data), drop), drop.vjp)


def _add(*inputs: Any, **settings: Any) -> Tensor | None:
    """The sum of two arrays of one shape, postponed; y may be a drop path that is."""
    if len(inputs) != 2 or settings:
        return None
    x, y = inputs
    one, two = _like(x), _like(y)
    if one is None or two is None or one.shape != two.shape or not _together(one, two):
        return None
    if fast("layer_norm", one) is not layer_norm:
        return None
    branch, drop = two, None
    if isinstance(y, Postponed) and y.residual is None and y.drop and y.is_asked_here():
        drop = y.drop  # else y is computed
    if drop is None:
        branch = contiguous(y.data)
    total = Postponed(contiguous(x.data), branch, drop)
    return record("add", (x, y), total, lambda g: (g, g))


def _norm(*inputs: Any, **settings: Any) -> Tensor | None:
    """The layer norm of a sum that is postponed: both are computed now."""
    if len(inputs) != 3 or not settings.keys() <= {"eps"}:
        return None
    x, weight, bias = inputs
    if not isinstance(x, Postponed) or x.residual is None or not x.is_asked_here():
        return None
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        return None
    eps = settings.get("eps", 1e-5)
    if type(eps) is not float or not eps >= 0 or fast("layer_norm", x.branch) is not layer_norm:
        return None
    arrays = x.residual, weight.data, bias.data
    if not _together(*arrays) or not fits(*arrays):
        return None
    x.data, y, vjp = normalised(*arrays, eps, x.branch, x.drop)
    return record("layer_norm", (x, weight, bias), y, vjp)


def _current_stream(x: Array) -> Any:
    """What the device of x works on at this moment in this thread."""
    return array_module(x).cuda.get_current_stream(x.device.id)


def _like(x: Any) -> Array | None:
    """An array of the shape and dtype of x, if that is a result, of floats on a GPU; or None."""
    if not isinstance(x, Tensor) or not x.made:
        return None
    array = x.branch if isinstance(x, Postponed) else x.data
    there = array_module(array) is not np and array.size > 0 and array.ndim > 1
    return array if there and same_float(array) else None


def _together(*arrays: Array) -> bool:
    """Whether arrays are of one dtype and on one GPU."""
    there = all(array_module(x) is not np for x in arrays)
    return there and same_float(*arrays) and len({x.device.id for x in arrays}) == 1


def _decides(keep: Any, x: Array) -> bool:
    """Whether `keep` has one truth value for each sample of x."""
    if array_module(keep) is np or keep.dtype != np.bool_ or keep.device.id != x.device.id:
        return False
    return bool(keep.shape == x.shape[:1] + (1,) * (x.ndim - 1))


FUSIONS.update(dropout=_drop, add=_add, layer_norm=_norm)

"""The operations on Tensors: every definition lifted, and the operators of Tensor attached.

`ops.softmax(x)` runs the definition `reference.normalize.softmax`, or the kernel of that name which
`kernels` chooses for the array, and records it for `backward`. Inputs are Tensors, arrays, lists or
numbers. What is checked stands in the docstrings (read by `lifting.shapes`) and `lifting.checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minswin.arrays import Array, Vjp
from minswin.autograd import Tensor, apply, is_recording
from minswin.devices import device_of, to_device
from minswin.lifting import checks, lift
from minswin.reference import attention as _attention
from minswin.reference import conv as _conv
from minswin.reference import detection as _detection
from minswin.reference import elementwise as _elementwise
from minswin.reference import linear as _linear
from minswin.reference import losses as _losses
from minswin.reference import maps as _maps
from minswin.reference import normalize as _normalize
from minswin.reference import reduce as _reduce
from minswin.reference import shape as _shape
from minswin.reference import windows as _windows

__all__ = [
    "add",
    "astype",
    "attention",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "broadcast_to",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "divide",
    "dropout",
    "exp",
    "focal_loss",
    "gelu",
    "gelu_tanh",
    "getitem",
    "giou",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "max_pool2d",
    "mean",
    "multiply",
    "negative",
    "pad",
    "patch_merge",
    "power",
    "relu",
    "reshape",
    "resize",
    "roll",
    "scatter_add",
    "sigmoid",
    "softmax",
    "sqrt",
    "stack",
    "subtract",
    "sum",
    "take",
    "tanh",
    "to",
    "transpose",
    "unfold",
    "window_merge",
    "window_partition",
]

MASK_HINT = (
    "a mask is a bias of 0 where a query may look and -inf, or -100, where it may not: "
    "np.where(allowed, 0, -np.inf).astype(q.dtype)"
)

# ── the operations ───────────────────────────────────────────────────────────────────────────────

add = lift(_elementwise.add)
subtract = lift(_elementwise.subtract)
multiply = lift(_elementwise.multiply)
divide = lift(_elementwise.divide, real=True)
negative = lift(_elementwise.negative)
power = lift(_elementwise.power)
exp = lift(_elementwise.exp, real=True)
log = lift(_elementwise.log, real=True)
sqrt = lift(_elementwise.sqrt, real=True)
tanh = lift(_elementwise.tanh, real=True)
sigmoid = lift(_elementwise.sigmoid, real=True)
relu = lift(_elementwise.relu)
gelu = lift(_elementwise.gelu, real=True)
gelu_tanh = lift(_elementwise.gelu_tanh, real=True)
dropout = lift(_elementwise.dropout, checks.dropout)

sum = lift(_reduce.sum, checks.axis("sum", several=True))
mean = lift(_reduce.mean, checks.axis("mean", several=True), real=True)
max = lift(_reduce.max, checks.axis("max", several=True))

reshape = lift(_shape.reshape)
transpose = lift(_shape.transpose)
broadcast_to = lift(_shape.broadcast_to)
roll = lift(_shape.roll)
pad = lift(_shape.pad)
getitem = lift(_shape.getitem)
concatenate = lift(_shape.concatenate)
stack = lift(_shape.stack, checks.axis("stack"))
take = lift(_shape.take, checks.take)
scatter_add = lift(_shape.scatter_add, checks.scatter_add)

matmul = lift(_linear.matmul)
linear = lift(_linear.linear, weight="weights are stored (out, in)")
unfold = lift(_conv.unfold)
conv2d = lift(_conv.conv2d, checks.conv2d)
max_pool2d = lift(_conv.max_pool2d, checks.pool("max_pool2d"))
avg_pool2d = lift(_conv.avg_pool2d, checks.pool("avg_pool2d"), real=True)

softmax = lift(_normalize.softmax, checks.axis("softmax"), real=True)
log_softmax = lift(_normalize.log_softmax, checks.axis("log_softmax"), real=True)
layer_norm = lift(_normalize.layer_norm, checks.norm("layer_norm"), real=True)
batch_norm = lift(_normalize.batch_norm, checks.norm("batch_norm"), real=True)
attention = lift(_attention.attention, bias=MASK_HINT, real=True)
cross_entropy = lift(
    _losses.cross_entropy,
    checks.cross_entropy,
    targets="targets of shape (B,) are class indices, soft labels have shape (B, K)",
    real=True,
)

window_partition = lift(_windows.window_partition, checks.window_partition)
window_merge = lift(_windows.window_merge, checks.window_merge)
patch_merge = lift(_windows.patch_merge, checks.patch_merge)

resize = lift(_maps.resize, checks.resize, real=True)
binary_cross_entropy = lift(_detection.binary_cross_entropy, real=True)
focal_loss = lift(_detection.focal_loss, checks.focal_loss, real=True)
giou = lift(_detection.giou, real=True)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype; from floating ones the gradient is converted back."""

    def astype(a: Array) -> tuple[Array, Vjp]:
        return a.astype(dtype), lambda g: (g.astype(a.dtype),)

    return apply(astype, x)


def to(x: Tensor, device: str) -> Tensor:
    """The same numbers on "cpu", "gpu" or "gpu:1"; the gradient is moved back."""
    home = device_of(x.data)
    if home == device or (home == "gpu:0" and device == "gpu"):
        return x

    def to(a: Array) -> tuple[Array, Vjp]:
        return to_device(a, device), lambda g: (to_device(g, home),)

    return apply(to, x)


# ── Tensor's operators: attached now, since Tensor itself has no operation ───────────────────────


def _sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """Both x.reshape(2, 3) and x.reshape((2, 3)) are allowed."""
    return tuple(arguments[0]) if arguments and isinstance(arguments[0], tuple) else arguments


def _reduction(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method that reduces a Tensor, which takes its axis by position too, as NumPy's does."""

    def method(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
        return operation(x, axis=axis, keepdims=keepdims)

    return method


def _power(x: Tensor, exponent: Any) -> Tensor:
    if not isinstance(exponent, (int, float, np.number)):
        raise TypeError(f"power: the exponent must be a number, got {type(exponent).__name__}")
    return power(x, exponent=exponent)


def _index(index: Any) -> Any:
    """An index with arrays instead of Tensors."""
    if isinstance(index, (tuple, list)):
        parts = [_index(part) for part in index]
        return tuple(parts) if isinstance(index, tuple) else parts  # a named tuple is one too
    return index.data if isinstance(index, Tensor) else index


_OF_THE_SHAPE = (np.zeros_like, np.ones_like, np.empty_like, np.full_like)


def _numpy_function(
    self: Tensor, function: Any, types: Any, arguments: tuple[Any, ...], settings: dict[str, Any]
) -> Any:
    """NumPy's own functions take a Tensor as its numbers, but never drop a gradient unseen."""
    tensors: list[Tensor] = []

    def numbers(x: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return type(x)(map(numbers, x)) if type(x) in (tuple, list) else x
        if isinstance(x, Tensor):
            tensors.append(x)
            return x.numpy()
        return x

    plain = numbers(arguments)
    result = function(*plain, **{name: numbers(x) for name, x in settings.items()})
    parts = result if isinstance(result, (tuple, list)) else [result]
    floats = any(getattr(part, "dtype", np.dtype(bool)).kind == "f" for part in parts)
    lost = floats and is_recording() and function not in _OF_THE_SHAPE
    if lost and any(x.requires_grad for x in tensors):
        name = function.__name__
        instead = f"use ops.{name}" if name in __all__ else "write it with minswin.ops"
        raise TypeError(
            f"np.{name}: its result has no gradient, and the Tensors given require one; {instead}, "
            "or give their .data"
        )
    return result


_METHODS: dict[str, Callable[..., Tensor]] = {
    "__add__": add,
    "__radd__": lambda x, y: add(y, x),
    "__sub__": subtract,
    "__rsub__": lambda x, y: subtract(y, x),
    "__mul__": multiply,
    "__rmul__": lambda x, y: multiply(y, x),
    "__truediv__": divide,
    "__rtruediv__": lambda x, y: divide(y, x),
    "__matmul__": matmul,
    "__rmatmul__": lambda x, y: matmul(y, x),
    "__neg__": negative,
    "__pow__": _power,
    "__getitem__": lambda x, index: getitem(x, index=_index(index)),
    "astype": astype,
    "to": to,
    "reshape": lambda x, *shape: reshape(x, shape=_sizes(shape)),
    "transpose": lambda x, *axes: transpose(x, axes=_sizes(axes) or tuple(range(x.ndim))[::-1]),
    "sum": _reduction(sum),
    "mean": _reduction(mean),
    "max": _reduction(max),
    "__array_function__": _numpy_function,
}

for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)

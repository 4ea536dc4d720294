"""The operations on Tensors: each definition lifted, its arguments checked, the operators attached.

`ops.softmax(x)` runs the kernel that `kernels.select` chooses for the definition
`reference.normalize.softmax`, and records it for `backward`. Inputs are Tensors, arrays or numbers.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minswin import kernels
from minswin.arrays import Array, Definition, Vjp, array_module
from minswin.autograd import Tensor, apply, vjp
from minswin.devices import device_of, to_device
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

Operation = Callable[..., Tensor]
FLOATS = ("float32", "float64")


# ── lifting ──────────────────────────────────────────────────────────────────────────────────────


Check = Callable[..., None]


def _lift(
    definition: Definition, check: Check | None = None, *, arithmetic: bool = False
) -> Operation:
    """Make an operation on Tensors from a definition on arrays.

    arithmetic: integer arrays are numbers like any other, and take the dtype of the floating ones.
    """
    name, signature = definition.__name__, _positional_only(definition)
    known: set[tuple[Any, ...]] = set()  # calls that fit the signature: how many inputs, what names

    @wraps(definition)
    def operation(*inputs: Any, **settings: Any) -> Tensor:
        call = len(inputs), *settings
        if call not in known:
            _check_call(name, signature, inputs, settings)
            known.add(call)
        inputs, array = _as_inputs(name, inputs, arithmetic)
        settings = {key: _plain(value) for key, value in settings.items()}
        if check is not None:
            check(*inputs, **settings)
        function = kernels.select(name, array)
        try:
            return apply(function, *inputs, **settings)
        except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            shapes = ", ".join("None" if x is None else str(x.shape) for x in inputs)
            kind = type(error) if type(error) in (TypeError, IndexError) else ValueError
            raise kind(f"{name}: {error}; the inputs have the shapes {shapes}") from error

    operation.__signature__ = signature  # type: ignore[attr-defined]
    return operation


def composite(check: Check) -> Callable[[Callable[..., Tensor]], Operation]:
    """Decorator: make an operation of a text on Tensors, which a kernel of its name may replace.

    The text is the definition: it runs, and is recorded step by step, where no kernel is chosen.
    `.text` is the text itself. check: raises where inputs and settings do not fit.
    """

    def lift(text: Callable[..., Tensor]) -> Operation:
        name = text.__name__
        kernels.COMPOSITES.add(name)
        kernels.kernel(name, "reference")(vjp(text))

        @wraps(text)
        def operation(*inputs: Any, **settings: Any) -> Tensor:
            inputs, array = _as_inputs(name, inputs)
            check(*inputs, **settings)
            function = kernels.select(name, array)
            if function is kernels.KERNELS[name]["reference"]:
                return text(*inputs, **settings)
            return apply(function, *inputs, **settings)

        operation.text = text  # type: ignore[attr-defined]
        return operation

    return lift


def _positional_only(definition: Definition) -> inspect.Signature:
    """The definition's signature as an operation has it: data by position, settings by keyword."""
    signature = inspect.signature(definition)
    parameters = [
        p.replace(kind=p.POSITIONAL_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p
        for p in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters, return_annotation=Tensor)


def _check_call(
    name: str, signature: inspect.Signature, inputs: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    try:
        signature.bind(*inputs, **settings)
    except TypeError:
        names = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        shown = signature.replace(parameters=names, return_annotation=signature.empty)
        why = _misfit(signature, inputs, settings)
        raise TypeError(f"{name}{shown}: {why}; data go by position") from None


def _misfit(signature: inspect.Signature, inputs: tuple[Any, ...], settings: dict[str, Any]) -> str:
    """Why a call does not fit; Python's own words for it differ from version to version."""
    parameters = signature.parameters.values()
    data = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    for key in settings:
        if key in (p.name for p in data):
            return f"{key!r} was given by keyword"
        if key not in signature.parameters:
            near = difflib.get_close_matches(key, signature.parameters, n=1)
            return f"unknown setting {key!r}" + (f", did you mean {near[0]!r}?" if near else "")
    missing = [p.name for p in data[len(inputs) :] if p.default is p.empty]
    missing += [
        f"{p.name}="
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in settings
    ]
    if missing:
        return f"missing {', '.join(missing)}"
    return f"expected at most {len(data)} inputs, got {len(inputs)}"


def _as_inputs(
    name: str, inputs: tuple[Any, ...], arithmetic: bool = False
) -> tuple[tuple[Any, ...], Array]:
    """Numbers and lists become arrays; the floating ones must share one dtype.

    Gives the inputs and one of their arrays, which decides about the backend.
    """
    arrays = [x for x in inputs if hasattr(x, "dtype") and not isinstance(x, np.generic)]
    floating = [x for x in arrays if x.dtype.kind == "f"]
    for x in floating:
        if x.dtype != floating[0].dtype:
            raise TypeError(
                f"{name}: the inputs must share one floating dtype, got {floating[0].dtype} and "
                f"{x.dtype}; convert one with .astype"
            )
    if floating and floating[0].dtype not in FLOATS:
        raise TypeError(
            f"{name}: expected float32 or float64 data, got {floating[0].dtype}; use .astype"
        )
    like = (floating or arrays or [np.empty(0, np.int64)])[0]
    array = like.data if isinstance(like, Tensor) else like
    kinds = {type(x.data if isinstance(x, Tensor) else x) for x in arrays}
    if kinds and kinds != {np.ndarray}:
        _require_one_device(name, arrays)
    return tuple(_as_input(x, array, arithmetic) for x in inputs), array


def _require_one_device(name: str, arrays: list[Any]) -> None:
    devices = [device_of(x.data if isinstance(x, Tensor) else x) for x in arrays]
    other = next((device for device in devices if device != devices[0]), None)
    if other is not None:
        raise ValueError(
            f"{name}: the inputs lie on two devices, {devices[0]} and {other}; move one with "
            f".to({devices[0]!r}), a plain array with devices.to_device, a model with model.to"
        )


def _as_input(x: Any, like: Array, arithmetic: bool) -> Any:
    """x as a Tensor or an array beside `like`: see _as_inputs."""
    if x is None:
        return None
    given = hasattr(x, "dtype") and not isinstance(x, np.generic)
    if not given and type(like) is not np.ndarray and np.isscalar(x):
        return _number(x, like, arithmetic)
    x = x if given else array_module(like).asarray(x)
    number = not given and x.dtype.kind == "f"  # of no dtype of its own
    count = arithmetic and x.dtype.kind in "iub"
    if like.dtype.kind == "f" and (number or count):
        x = (x.data if isinstance(x, Tensor) else x).astype(like.dtype)
    return x


def _number(x: Any, like: Array, arithmetic: bool) -> Array:
    """A number beside an array on a GPU, filled in there: nothing is copied from the CPU."""
    kind = np.asarray(x).dtype
    takes = like.dtype.kind == "f" and (kind.kind == "f" or (arithmetic and kind.kind in "iub"))
    return array_module(like).full((), x, like.dtype if takes else kind)


def _plain(setting: Any) -> Any:
    """A setting as Python has it: a NumPy number would force its dtype on the result."""
    return setting.item() if isinstance(setting, np.generic) else setting


# ── checks: who, which argument, what was expected, what came, what to do ────────────────────────


def _check_matmul(x: Any, y: Any) -> None:
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError(
            f"matmul: expected x (..., N, K) and y (..., K, M), got {x.shape} and {y.shape}; "
            "K must agree, and both need two axes at least"
        )


def _check_linear(x: Any, weight: Any, bias: Any) -> None:
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: weight must be (M, K={x.shape[-1] if x.ndim else '?'}) for x of shape "
            f"{x.shape}, got {weight.shape}; weights are stored (out, in)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias must be {weight.shape[:1]}, got {bias.shape}")


def _check_conv2d(x: Any, weight: Any, bias: Any, **settings: Any) -> None:
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"conv2d: expected x (B, C, H, W) and weight (D, C, kh, kw), got {x.shape} and "
            f"{weight.shape}; C must agree"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"conv2d: bias must be {weight.shape[:1]}, got {bias.shape}")
    ph, pw = settings.get("padding", (0, 0))
    if x.shape[2] + 2 * ph < weight.shape[2] or x.shape[3] + 2 * pw < weight.shape[3]:
        raise ValueError(
            f"conv2d: a {x.shape[2]}×{x.shape[3]} map with padding {(ph, pw)} is smaller than the "
            f"{weight.shape[2]}×{weight.shape[3]} filter; enlarge the map or the padding"
        )


def _check_layer_norm(x: Any, weight: Any, bias: Any, **settings: Any) -> None:
    if x.ndim == 0 or weight.shape != x.shape[-1:] or bias.shape != x.shape[-1:]:
        raise ValueError(
            f"layer_norm: weight and bias must be {x.shape[-1:]} for x of shape {x.shape}, "
            f"got {weight.shape} and {bias.shape}"
        )


def _check_batch_norm(x: Any, weight: Any, bias: Any, **settings: Any) -> None:
    if x.ndim != 4 or weight.shape != x.shape[1:2] or bias.shape != x.shape[1:2]:
        raise ValueError(
            f"batch_norm: expected x (B, C, H, W), weight and bias (C,), got {x.shape}, "
            f"{weight.shape} and {bias.shape}"
        )


def _check_pool(who: str) -> Check:
    def check(x: Any, *, kernel: Any, stride: Any, padding: tuple[int, int] = (0, 0)) -> None:
        if x.ndim != 4:
            raise ValueError(f"{who}: x must be (B, C, H, W), got {x.shape}")
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            raise ValueError(
                f"{who}: the padding must be at most half of the kernel {kernel}, got {padding}; "
                "else a patch holds nothing of the map"
            )

    return check


def _check_attention(q: Any, k: Any, v: Any, bias: Any) -> None:
    if (
        min(q.ndim, k.ndim, v.ndim) < 2
        or q.shape[-1] != k.shape[-1]
        or k.shape[:-1] != v.shape[:-1]
        or q.shape[:-2] != k.shape[:-2]
    ):
        raise ValueError(
            "attention: expected q (..., N, d), k (..., M, d) and v (..., M, e), "
            f"got {q.shape}, {k.shape} and {v.shape}"
        )
    logits = (*q.shape[:-1], k.shape[-2])
    if bias is not None and not _broadcasts(bias.shape, logits):
        raise ValueError(f"attention: bias must broadcast to {logits}, got {bias.shape}")


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    tail = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape, tail, strict=True))


def _check_window_partition(x: Any, *, window: tuple[int, int]) -> None:
    if x.ndim != 4 or x.shape[1] % window[0] or x.shape[2] % window[1]:
        raise ValueError(
            f"window_partition: x must be a map (B, H, W, C) that {window[0]}×{window[1]} windows "
            f"divide, got {x.shape}; pad it first"
        )


def _check_window_merge(x: Any, *, window: tuple[int, int], grid: tuple[int, int]) -> None:
    count, tokens = grid[0] // window[0] * (grid[1] // window[1]), window[0] * window[1]
    if x.ndim != 4 or x.shape[1:3] != (count, tokens):
        raise ValueError(
            f"window_merge: a {grid[0]}×{grid[1]} map of {window[0]}×{window[1]} windows needs "
            f"x (B, {count}, {tokens}, C), got {x.shape}"
        )


def _check_patch_merge(x: Any) -> None:
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(
            f"patch_merge: x must be a map (B, H, W, C) with H and W even, got {x.shape}; "
            "pad it with one row or column of zeros"
        )


def _check_cross_entropy(logits: Any, targets: Any, *, smoothing: float = 0.0) -> None:
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy: logits must be (B, K), got {logits.shape}")
    B, K = logits.shape
    if B == 0:
        raise ValueError("cross_entropy: the batch is empty; leave such a batch out")
    if targets.ndim == 1 and targets.dtype.kind not in "iu":
        raise TypeError(
            f"cross_entropy: targets of shape (B,) are class indices and must be integers, "
            f"got {targets.dtype}; soft labels have shape (B, K)"
        )
    if targets.shape not in ((B,), (B, K)):
        raise ValueError(
            f"cross_entropy: targets must be ({B},) class indices or ({B}, {K}) probabilities, "
            f"got {targets.shape}"
        )
    if not 0 <= smoothing < 1:
        raise ValueError(f"cross_entropy: smoothing must be in [0, 1), got {smoothing}")
    if targets.ndim == 1:
        _check_range("cross_entropy", "targets", targets, K)


def _check_take(table: Any, rows: Any) -> None:
    if rows.dtype.kind not in "iu":
        raise TypeError(f"take: rows must be integers, got {rows.dtype}")
    _check_range("take", "rows", rows, table.shape[0])


def _check_scatter_add(x: Any, rows: Any, *, length: int) -> None:
    if x.shape[: rows.ndim] != rows.shape:
        raise ValueError(f"scatter_add: rows {rows.shape} must lead the shape of x, got {x.shape}")
    _check_range("scatter_add", "rows", rows, length)


def _check_dropout(x: Any, keep: Any, *, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate must be in [0, 1], got {rate}")
    if keep.dtype.kind != "b" or not _broadcasts(keep.shape, x.shape):
        raise ValueError(
            f"dropout: keep must be bool and broadcast to {x.shape}, got {keep.dtype} {keep.shape}"
        )


def _check_resize(x: Any, *, size: tuple[int, int], method: str = "bilinear") -> None:
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"resize: x must be a map (B, H, W, C) with H, W >= 1, got {x.shape}")
    if method not in _maps.METHODS:
        raise ValueError(f"resize: method must be one of {', '.join(_maps.METHODS)}, got {method}")
    if len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise ValueError(f"resize: size must be two positive ints (H, W), got {size!r}")


def _check_same_shape(who: str) -> Check:
    def check(logits: Any, targets: Any, **settings: Any) -> None:
        if logits.shape != targets.shape:
            raise ValueError(
                f"{who}: targets must have the shape {logits.shape} of the logits, "
                f"got {targets.shape}"
            )

    return check


def _check_focal_loss(logits: Any, targets: Any, **settings: Any) -> None:
    _check_same_shape("focal_loss")(logits, targets)
    if targets.dtype.kind not in "iub":
        raise TypeError(f"focal_loss: targets must be bool or integers, got {targets.dtype}")
    _check_range("focal_loss", "targets", targets, 2)


def _check_giou(a: Any, b: Any) -> None:
    if a.shape != b.shape or a.shape[-1:] != (4,):
        raise ValueError(f"giou: expected two arrays of boxes (..., 4), got {a.shape}, {b.shape}")


def _check_range(who: str, argument: str, indices: Any, count: int) -> None:
    indices = indices.data if isinstance(indices, Tensor) else indices
    if not isinstance(indices, np.ndarray):
        return  # on a GPU the question would wait for all that was asked before
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= count):
        raise ValueError(
            f"{who}: {argument} must lie in 0…{count - 1}, "
            f"got values from {int(indices.min())} to {int(indices.max())}"
        )


# ── the operations ───────────────────────────────────────────────────────────────────────────────

add = _lift(_elementwise.add, arithmetic=True)
subtract = _lift(_elementwise.subtract, arithmetic=True)
multiply = _lift(_elementwise.multiply, arithmetic=True)
divide = _lift(_elementwise.divide, arithmetic=True)
negative = _lift(_elementwise.negative)
power = _lift(_elementwise.power)
exp = _lift(_elementwise.exp)
log = _lift(_elementwise.log)
sqrt = _lift(_elementwise.sqrt)
tanh = _lift(_elementwise.tanh)
sigmoid = _lift(_elementwise.sigmoid)
relu = _lift(_elementwise.relu)
gelu = _lift(_elementwise.gelu)
gelu_tanh = _lift(_elementwise.gelu_tanh)
dropout = _lift(_elementwise.dropout, _check_dropout)

sum = _lift(_reduce.sum)
mean = _lift(_reduce.mean)
max = _lift(_reduce.max)

reshape = _lift(_shape.reshape)
transpose = _lift(_shape.transpose)
broadcast_to = _lift(_shape.broadcast_to)
roll = _lift(_shape.roll)
pad = _lift(_shape.pad)
getitem = _lift(_shape.getitem)
concatenate = _lift(_shape.concatenate)
stack = _lift(_shape.stack)
take = _lift(_shape.take, _check_take)
scatter_add = _lift(_shape.scatter_add, _check_scatter_add)

matmul = _lift(_linear.matmul, _check_matmul)
linear = _lift(_linear.linear, _check_linear)
unfold = _lift(_conv.unfold)
conv2d = _lift(_conv.conv2d, _check_conv2d)
max_pool2d = _lift(_conv.max_pool2d, _check_pool("max_pool2d"))
avg_pool2d = _lift(_conv.avg_pool2d, _check_pool("avg_pool2d"))

softmax = _lift(_normalize.softmax)
log_softmax = _lift(_normalize.log_softmax)
layer_norm = _lift(_normalize.layer_norm, _check_layer_norm)
batch_norm = _lift(_normalize.batch_norm, _check_batch_norm)
attention = _lift(_attention.attention, _check_attention)
cross_entropy = _lift(_losses.cross_entropy, _check_cross_entropy)

window_partition = _lift(_windows.window_partition, _check_window_partition)
window_merge = _lift(_windows.window_merge, _check_window_merge)
patch_merge = _lift(_windows.patch_merge, _check_patch_merge)

resize = _lift(_maps.resize, _check_resize)
binary_cross_entropy = _lift(
    _detection.binary_cross_entropy, _check_same_shape("binary_cross_entropy")
)
focal_loss = _lift(_detection.focal_loss, _check_focal_loss)
giou = _lift(_detection.giou, _check_giou)


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


# ── Tensor's operators: attached here, since Tensor knows no operation ───────────────────────────


def _sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """Both x.reshape(2, 3) and x.reshape((2, 3)) are allowed."""
    return tuple(arguments[0]) if arguments and isinstance(arguments[0], tuple) else arguments


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
    "sum": lambda x, axis=None, keepdims=False: sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis=None, keepdims=False: mean(x, axis=axis, keepdims=keepdims),
    "max": lambda x, axis=None, keepdims=False: max(x, axis=axis, keepdims=keepdims),
}

for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)

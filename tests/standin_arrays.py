"""The arrays of the stand-in for CuPy (standin.py): foreign to NumPy, computed with NumPy."""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Iterator
from typing import Any

import cupy_rules
import numpy as np
from standin_streams import Capture, Stream, catch_up

METHODS = """
    all any argmax argsort astype clip copy cumsum flatten max mean min prod ravel repeat reshape
    squeeze sum swapaxes transpose view
"""
BINARY = "add sub mul truediv floordiv mod pow matmul and or xor eq ne lt le gt ge"
IN_PLACE = "iadd isub imul itruediv iand ior"


class Device:
    """Of which there are two; inside `with`, new arrays are made on it."""

    current = 0

    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> Device:
        self._before, Device.current = Device.current, self.id
        return self

    def __exit__(self, *_: object) -> None:
        Device.current = self._before

    def synchronize(self) -> None:
        for stream in list(Stream.all):
            stream.synchronize()


class Flags:
    """What CuPy says of an array's memory, and no more: there is no `writeable`."""

    def __init__(self, flags: Any) -> None:
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = flags.owndata


class ndarray:  # as CuPy calls it
    """An array that only functions of this module understand."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, inside: np.ndarray, base: Any = None, device: int | None = None) -> None:
        self.inside, self.base = inside, base
        self.device = Device(Device.current if device is None else device)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_function__(self, *_: Any) -> Any:
        return NotImplemented

    shape = property(lambda self: self.inside.shape)
    ndim = property(lambda self: self.inside.ndim)
    size = property(lambda self: self.inside.size)
    dtype = property(lambda self: self.inside.dtype)
    nbytes = property(lambda self: self.inside.nbytes)
    itemsize = property(lambda self: self.inside.itemsize)
    strides = property(lambda self: self.inside.strides)
    flags = property(lambda self: Flags(self.inside.flags))
    T = property(lambda self: self.transpose())
    data = property(lambda self: types.SimpleNamespace(ptr=self.inside.ctypes.data))

    def __len__(self) -> int:
        return len(self.inside)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        check("getitem", {"a": self, "index": index})
        return call(operator.getitem, self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        check("getitem", {"a": self, "index": index})
        change(self, operator.setitem, index, value)

    def fill(self, value: float) -> None:
        self[...] = value

    # ── what waits for the GPU ───────────────────────────────────────────────────────────────────

    def get(self) -> np.ndarray:
        Stream.current.synchronize()
        return self.inside.copy()

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        """Copy from the CPU; on a stream that is late, later."""
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype:
            raise TypeError(f"set: expected a NumPy array of {self.dtype}, got {array!r}")
        if array.shape != self.shape:
            raise ValueError(f"set: expected the shape {self.shape}, got {array.shape}")
        if Capture.now is not None:
            raise RuntimeError("set: a copy from the CPU cannot be captured")
        stream = stream or Stream.current

        def copy() -> None:
            self.inside[...] = array

        stream.waiting.append(copy)

    def item(self) -> Any:
        return self.get().item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __repr__(self) -> str:
        return f"standin({self.inside!r})"

    def __neg__(self) -> ndarray:
        return call(operator.neg, self)

    def __abs__(self) -> ndarray:
        return call(operator.abs, self)

    def __invert__(self) -> ndarray:
        return call(operator.invert, self)


def _methods() -> None:
    for name in METHODS.split():
        setattr(ndarray, name, _method(name))
    for name in BINARY.split():
        function = getattr(operator, f"{name}_" if name in ("and", "or") else name)
        setattr(ndarray, f"__{name}__", _operator(name, function))
        if name not in ("eq", "ne", "lt", "le", "gt", "ge"):
            setattr(ndarray, f"__r{name}__", lambda x, y, f=function: call(f, y, x))
    for name in IN_PLACE.split():
        function = getattr(operator, name)
        setattr(ndarray, f"__{name}__", lambda x, y, f=function: change(x, f, y))


def _operator(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(x: ndarray, y: Any) -> Any:
        if not isinstance(y, ndarray) and getattr(y, "__array_ufunc__", y) is None:
            return NotImplemented  # CuPy too lets y.__radd__ and the like have their turn
        check(name, {"x": x, "y": y})
        return call(function, x, y)

    return apply


def _method(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *inputs: Any, **settings: Any) -> Any:
        check(name, cupy_rules.bound(f"ndarray.{name}", (self, *inputs), settings))
        return call(lambda x, *a, **s: getattr(x, name)(*a, **s), self, *inputs, **settings)

    return method


# ── calls ────────────────────────────────────────────────────────────────────────────────────────


def check(name: str, given: dict[str, Any]) -> None:
    """Raise what CuPy raises for this call."""
    cupy_rules.check(name, given, capturing=Capture.now is not None)


def call(function: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    """function on the arrays inside; the result is of this module again."""
    devices = _devices([*inputs, *settings.values()])
    if len(devices) > 1:
        raise ValueError(f"arrays of several devices: {sorted(devices)}")
    device = min(devices) if devices else Device.current
    if "out" in settings:
        target = settings.pop("out")
        return change(target, lambda out, *x: function(*x, **settings, out=out), *inputs)
    inside, own = [_open(x) for x in inputs], {k: _open(v) for k, v in settings.items()}
    catch_up()
    value = function(*inside, **own)
    result = _close(value, device)
    if Capture.now is not None:
        Capture.now.record(function, inside, own, result)
    return result


def change(target: ndarray, function: Callable[..., Any], *inputs: Any) -> ndarray:
    """function writes into target."""
    inside = [_open(x) for x in inputs]

    def work() -> None:
        function(target.inside, *inside)

    if Capture.now is not None:
        Capture.now.will_write(target)
        Capture.now.calls.append(work)
    catch_up()
    work()
    return target


def _open(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, ndarray):
        return x.inside
    if isinstance(x, (tuple, list)):
        return type(x)(_open(item) for item in x)
    return x


def _close(value: Any, device: int) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_close(item, device) for item in value)
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        return ndarray(array, array.base, device)
    return value


def _devices(inputs: Any) -> set[int]:
    found: set[int] = set()
    for x in inputs:
        if isinstance(x, ndarray):
            found.add(x.device.id)
        elif isinstance(x, (tuple, list)):
            found |= _devices(x)
    return found


# ── from and to the CPU ──────────────────────────────────────────────────────────────────────────


def asarray(x: Any, dtype: Any = None) -> ndarray:
    if isinstance(x, ndarray):
        return x if dtype is None or x.dtype == dtype else x.astype(dtype)
    if Capture.now is not None:
        raise RuntimeError("a copy from the CPU cannot be captured")
    return ndarray(np.array(x, dtype=dtype))


def asnumpy(x: Any) -> np.ndarray:
    return x.get() if isinstance(x, ndarray) else np.asarray(x)


_methods()

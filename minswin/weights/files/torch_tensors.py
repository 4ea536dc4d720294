"""The tensors that the pickle of a .pth file describes, in both formats of torch.save.

A tensor is a window on a storage: an offset, sizes and strides, all counted in elements. Several
tensors may share a storage. Only the storages that the chosen state dict needs are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minswin.weights.files.mapped import STORED, BadFile, count_of, short
from minswin.weights.files.pickle_machine import Foreign, Rule, foreign
from minswin.weights.files.pickles import dictionary

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "",
}


@dataclass(frozen=True)
class Kind:
    """What a pickle means by torch.FloatStorage or torch.float32; "" where bytes are meant."""

    name: str


@dataclass(frozen=True)
class Storage:
    """`count` numbers of a kind, from number `first` on, of the `whole` that lie under `key`."""

    kind: str
    key: str
    whole: int
    first: int
    count: int


@dataclass(frozen=True)
class View:
    """A tensor as the pickle describes it, known to lie inside its storage."""

    storage: Storage
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class TorchFile:
    """The object of a file, with a View for each tensor, and a way to get a storage's numbers."""

    tree: Any
    load: Callable[[Storage, str], np.ndarray]
    foreign: list[str] = field(default_factory=list)
    storages: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def array(self, view: View) -> np.ndarray:
        storage = view.storage
        key = (storage.key, view.kind)
        if key not in self.storages:
            self.storages[key] = self.load(storage, view.kind)
        first = storage.first + view.offset
        flat = self.storages[key]
        count = math.prod(view.shape)
        if view.strides == _dense(view.shape) or count == 0:
            return flat[first : first + count].reshape(view.shape)
        steps = tuple(step * flat.itemsize for step in view.strides)
        return np.lib.stride_tricks.as_strided(flat[first:], view.shape, steps, writeable=False)


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


# ── the names of the pickle ──────────────────────────────────────────────────────────────────────


def _view(storage: object, offset: object, shape: Any, strides: Any, *rest: object) -> View:
    """Rule for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    _require_unmarked(rest[2:])
    return _checked(storage, "", offset, shape, strides)


def _view_of_kind(storage: object, offset: object, shape: Any, strides: Any, *rest: object) -> View:
    """Rule for torch._utils._rebuild_tensor_v3: the storage is bytes, the kind comes apart."""
    if not isinstance(rest[2], Kind) or not rest[2].name:
        raise BadFile("has a tensor of a kind that NumPy does not have; convert it first")
    _require_unmarked(rest[3:])
    return _checked(storage, rest[2].name, offset, shape, strides)


def _require_unmarked(remarks: tuple[object, ...]) -> None:
    """torch may save a tensor as it lies and remark that its numbers are the conjugates of it."""
    if any(remarks):
        what = ", ".join(map(short, remarks[0])) if isinstance(remarks[0], dict) else "something"
        raise BadFile(f"has a tensor marked as {what}; save tensor.resolve_conj().resolve_neg()")


def _checked(storage: object, kind: str, offset: object, shape: Any, strides: Any) -> View:
    what = "a tensor"
    if not isinstance(storage, Storage):
        raise BadFile("has a tensor without a storage; it is damaged")
    kind, room = kind or storage.kind, storage.count
    if not kind:
        raise BadFile("has a tensor of bytes whose kind of number is missing; it is damaged")
    if not storage.kind:
        room //= STORED[kind].itemsize
    elif kind != storage.kind:
        raise BadFile(f"has a tensor of {kind} on a storage of {storage.kind}; it is damaged")
    count, _ = count_of(shape, what), count_of(strides, f"the strides of {what}")
    shape, strides = tuple(shape), tuple(strides)
    if type(offset) is not int or not 0 <= offset <= room or len(shape) != len(strides):
        raise BadFile(f"has a tensor that begins outside its storage of {room:,}; it is damaged")
    last = sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if count and (offset + last >= room or count > room):
        raise BadFile(
            f"has a tensor of shape {shape} and strides {strides} at {offset:,}, which does not "
            f"fit into its storage of {room:,} numbers; it is damaged, or the tensor was expanded: "
            "save a copy of it (tensor.clone())"
        )
    return View(storage, kind, offset, shape, strides)


def _parameter(tensor: object, *rest: object) -> object:
    """Rule for torch._utils._rebuild_parameter: a parameter is its tensor."""
    if not isinstance(tensor, View | Foreign):
        raise BadFile("has a parameter without a tensor; it is damaged")
    return tensor


def _size(*args: object) -> object:
    """Rule for torch.Size."""
    if args and not isinstance(args[0], tuple | list):
        raise BadFile("has a torch.Size that is no tuple; it is damaged")
    return args[0] if args else ()


def _aside(*args: object) -> None:
    """Rule for what makes plain data, which is no tensor and is left out: sets, bytes, …"""


# What protocols 2 and 3 call where later ones have an opcode.
_PLAIN = ("set", "frozenset", "bytearray", "bytes", "complex", "range", "xrange", "slice")

_TABLE: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): Rule(dictionary, 0, 1),
    ("torch._utils", "_rebuild_tensor"): Rule(_view, 4, 4),
    ("torch._utils", "_rebuild_tensor_v2"): Rule(_view, 6, 7),
    ("torch._utils", "_rebuild_tensor_v3"): Rule(_view_of_kind, 7, 8),
    ("torch._utils", "_rebuild_parameter"): Rule(_parameter, 3, 3),
    ("torch._utils", "_rebuild_parameter_with_state"): Rule(_parameter, 4, 4),
    ("torch", "Size"): Rule(_size, 0, 1),
    ("_codecs", "encode"): Rule(_aside, 1, 2),
    **{(at, n): Rule(_aside, 0, 3) for at in ("builtins", "__builtin__") for n in _PLAIN},
    **{("torch", name): Kind(name) for name in STORED},
    **{
        (module, name): Kind(kind)
        for module in ("torch", "torch.storage", "torch.cuda")
        for name, kind in STORAGES.items()
    },
}


@dataclass
class Names:
    """What the names and the ids of one pickle mean; keeps the foreign names that came by."""

    legacy: bool
    foreign: list[str] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)

    def find(self, module: str, name: str) -> object:
        known = _TABLE.get((module, name))
        if known is None:
            known = foreign(module, name)
            if known.name not in self.foreign and len(self.foreign) < 100:
                self.foreign.append(known.name)
        return known

    def persistent(self, pid: object) -> Storage:
        """('storage', class, key, place, count), and for legacy files the part that is meant."""
        if not isinstance(pid, tuple) or len(pid) not in ((5, 6) if self.legacy else (5,)):
            raise BadFile("has an id that is not one of torch.save; it is damaged")
        if pid[0] == "module":
            raise BadFile("holds a whole model with its source; save its state_dict() instead")
        kind, key, whole = pid[1], pid[2], pid[4]
        if pid[0] != "storage" or isinstance(kind, Foreign):
            name = kind.name if isinstance(kind, Foreign) else pid[0]
            raise BadFile(f"has numbers of the kind {short(name)}, which NumPy does not have")
        if not isinstance(kind, Kind) or not isinstance(key, str) or len(key) > 64:
            raise BadFile("has a storage without a name or a kind; it is damaged")
        count_of((whole,), "a storage")
        storage = Storage(kind.name, key, whole, 0, whole)
        if self.storages.setdefault(key, storage) != storage:
            raise BadFile(f"describes its storage {short(key)} in two ways; it is damaged")
        return _part(storage, pid[5]) if len(pid) == 6 and pid[5] is not None else storage


def _part(storage: Storage, part: object) -> Storage:
    if not isinstance(part, tuple | list) or len(part) != 3:
        raise BadFile("has a part of a storage that is not described; it is damaged")
    _, first, count = part
    count_of((first, count), "a part of a storage")
    if first + count > storage.whole:
        raise BadFile("has a part of a storage that lies outside it; it is damaged")
    return Storage(storage.kind, storage.key, storage.whole, first, count)

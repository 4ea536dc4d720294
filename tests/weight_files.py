"""Weight files built byte by byte, without torch and without the writers under test."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile

import numpy as np

_RNG = np.random.default_rng(0)
STATE: dict[str, np.ndarray] = {
    "layers.0.weight": _RNG.standard_normal((2, 3)).astype(np.float32),
    "layers.0.index": _RNG.integers(-9, 9, (4,)),
    "scale": _RNG.standard_normal(()),
    "half": _RNG.standard_normal((3, 1, 2)).astype(np.float16),
    "mask": np.array([True, False, True, True, False]),
    "nothing": np.zeros((0, 3), np.float32),
}
FORMATS = ("safetensors", "npz", "pth", "legacy")
_CODES = {"float32": "F32", "int64": "I64", "float64": "F64", "float16": "F16", "bool": "BOOL"}
CLASSES = {
    "float32": "Float",
    "int64": "Long",
    "float64": "Double",
    "float16": "Half",
    "bool": "Bool",
}
CLASSES_BY_SIZE = {
    1: ("Byte", "Char", "Bool"),
    2: ("Half", "Short", "BFloat16"),
    4: ("Float", "Int"),
    8: ("Double", "Long", "ComplexFloat"),
}

# ── the parts of a pickle ────────────────────────────────────────────────────────────────────────

END = b"."
HEAD = b"\x80\x02"
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + raw


def several(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def storage(kind: str, key: str, count: int, *more: bytes) -> bytes:
    parts = (text("storage"), name("torch", f"{kind}Storage"), text(key), text("cpu"))
    return several(*parts, number(count), *more) + b"Q"


def tensor(store: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    sizes, steps = several(*map(number, shape)), several(*map(number, strides))
    rest = (b"\x89", ORDERED)
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + several(store, number(offset), sizes, steps, *rest)
        + b"R"
    )


class Keywords:
    """Made anew by a call with arguments by name."""

    def __getnewargs_ex__(self) -> tuple[tuple, dict[str, int]]:
        return (), {"a": 1}


def pickled(value: object, protocol: int) -> bytes:
    """What Python writes for a value, without the beginning and the end of a pickle."""
    program = pickle.dumps(value, protocol)[2:-1]
    return program[9:] if program[:1] == b"\x95" else program


def entries(legacy: bool = False) -> list[tuple[str, bytes]]:
    found = []
    for key, (label, array) in enumerate(STATE.items()):
        store = storage(CLASSES[array.dtype.name], str(key), array.size, *[b"N"] * legacy)
        steps = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        found.append((label, tensor(store, 0, array.shape, steps)))
    return found


def dictionary(items: list[tuple[str, bytes]]) -> bytes:
    return ORDERED + b"(" + b"".join(text(label) + value for label, value in items) + b"u"


def raw(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


# ── whole files ──────────────────────────────────────────────────────────────────────────────────


def zip_file(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for label, content in members.items():
            archive.writestr(zipfile.ZipInfo(label), content, method)
    return out.getvalue()


def pth_file(program: bytes, numbers: list[bytes] | None = None) -> bytes:
    numbers = [raw(array) for array in STATE.values()] if numbers is None else numbers
    data = {f"archive/data/{key}": content for key, content in enumerate(numbers)}
    return zip_file({"archive/data.pkl": program, **data, "archive/version": b"3\n"})


def legacy_file(
    program: bytes, numbers: list[bytes] | None = None, counts: list[int] | None = None
) -> bytes:
    arrays = list(STATE.values())
    numbers = [raw(array) for array in arrays] if numbers is None else numbers
    counts = [array.size for array in arrays] if counts is None else counts
    magic = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
    system = b"}(" + text("protocol_version") + number(1001) + text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(text(str(key)) for key in range(len(numbers))) + b"e"
    tail = b"".join(struct.pack("<q", n) + part for n, part in zip(counts, numbers, strict=True))
    parts = (HEAD + number(1001) + END, HEAD + system + END, program, HEAD + keys + END, tail)
    return magic + b"".join(parts)


def safetensors_table() -> dict[str, dict[str, object]]:
    table, at = {}, 0
    for label, array in STATE.items():
        entry = {"dtype": _CODES[array.dtype.name], "shape": list(array.shape)}
        table[label] = {**entry, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    return table


def safetensors_file(header: bytes, numbers: bytes | None = None) -> bytes:
    numbers = b"".join(map(raw, STATE.values())) if numbers is None else numbers
    return len(header).to_bytes(8, "little") + header + numbers


def npy(array: np.ndarray, header: str | None = None) -> bytes:
    told = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    content = (str(told) if header is None else header).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content + raw(array)


def whole() -> dict[str, bytes]:
    """A sound file of each format."""
    return {
        "safetensors": safetensors_file(json.dumps(safetensors_table()).encode()),
        "npz": zip_file({f"{label}.npy": npy(array) for label, array in STATE.items()}),
        "pth": pth_file(HEAD + dictionary(entries()) + END),
        "legacy": legacy_file(HEAD + dictionary(entries(True)) + END),
    }


def bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """All that makes an array what it is, whatever the order of its bytes."""
    return array.dtype.name, array.shape, raw(array)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        bits(found[label]) == bits(array) for label, array in expected.items()
    )

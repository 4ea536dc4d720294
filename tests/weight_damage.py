"""Damages weight files and makes hostile ones; each is given by its format, a seed and a number."""

from __future__ import annotations

import functools
import json
import random
import struct
import zipfile
from collections.abc import Callable

import numpy as np
from weight_files import (
    CLASSES,
    CLASSES_BY_SIZE,
    END,
    HEAD,
    ORDERED,
    STATE,
    dictionary,
    entries,
    legacy_file,
    name,
    npy,
    number,
    pth_file,
    raw,
    safetensors_file,
    safetensors_table,
    several,
    storage,
    tensor,
    text,
    whole,
    zip_file,
)

from minswin.weights.files.mapped import ALLOWANCE

# ── damage to the bytes ──────────────────────────────────────────────────────────────────────────

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)


def flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def cut_off(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def overwrite(content: bytearray, rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, len(content) - width))
    value = rng.choice((*EXTREMES, len(content), rng.randrange(1 << 16)))
    content[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def drop(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    del content[at : at + rng.randrange(1, 40)]


def repeat(content: bytearray, rng: random.Random) -> None:
    at, to = rng.randrange(len(content)), rng.randrange(len(content))
    content[to:to] = content[at : at + rng.randrange(1, 200)]


def insert(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at:at] = rng.randbytes(rng.randrange(1, 30))


DAMAGES = (flip_bits, flip_bits, cut_off, overwrite, overwrite, drop, repeat, insert)


def damaged(content: bytes, rng: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2))):
        if made:
            rng.choice(DAMAGES)(made, rng)
    return bytes(made)


# ── lies that a check sum does not find ──────────────────────────────────────────────────────────

LIES = (-1, 0, 1, 2, 5, 6, 7, 24, 255, 2**31 - 1, 2**31, 2**32, 2**48, 2**62, 2**63, 2**64, 10**30)
HOSTILE = [
    *(("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen")),
    *(("builtins", "eval"), ("builtins", "exec"), ("__builtin__", "eval"), ("builtins", "open")),
    *(("builtins", "getattr"), ("builtins", "__import__"), ("builtins", "compile")),
    *(("importlib", "import_module"), ("runpy", "run_path"), ("pty", "spawn"), ("sys", "exit")),
    *(("code", "interact"), ("shutil", "rmtree"), ("webbrowser", "open"), ("pickle", "loads")),
    *(("operator", "attrgetter"), ("types", "CodeType"), ("socket", "create_connection")),
    *(("timeit", "timeit"), ("pip", "main"), ("ctypes", "CDLL"), ("urllib.request", "urlopen")),
]
INERT = [
    *(("argparse", "Namespace"), ("yacs.config", "CfgNode"), ("numpy.core.multiarray", "scalar")),
    *(("numpy", "dtype"), ("torch.hub", "load"), ("numpy.testing._private.utils", "runstring")),
    *(("_codecs", "encode"), ("torch", "device"), ("pathlib", "PosixPath"), ("swin", "Model")),
    *(("collections", "defaultdict"), ("torch.serialization", "load"), ("builtins", "set")),
]


def attacks(module: str, what: str, argument: str) -> dict[str, bytes]:
    """One way per opcode to have a name called, with the argument."""
    arg, one, label = text(argument), several(text(argument)), name(module, what)
    short = b"\x8c" + bytes([len(module)]) + module.encode()
    short += b"\x8c" + bytes([len(what)]) + what.encode()
    return {
        "REDUCE": label + one + b"R",
        "NEWOBJ": label + one + b"\x81",
        "NEWOBJ_EX": label + one + b"}\x92",
        "INST": b"(" + arg + f"i{module}\n{what}\n".encode(),
        "OBJ": b"(" + label + arg + b"o",
        "STACK_GLOBAL": short + b"\x93" + one + b"R",
        "STACK_GLOBAL of texts": text(module) + text(what) + b"\x93" + one + b"R",
        "EXT1": b"\x82\x01" + one + b"R",
        "EXT2": b"\x83\x01\x00" + one + b"R",
        "EXT4": b"\x84\x01\x00\x00\x00" + one + b"R",
        "BUILD": ORDERED + b"}" + text("__setstate__") + label + b"sb",
        "BUILD of the name": label + b"}" + text("__reduce__") + arg + b"sb",
        "memo": label + b"q\x01" + b"0" + b"h\x01" + one + b"R",
        "recalled": label + b"q\x01" + one + b"R" + one + b"R",
        "PERSID": b"P" + argument.encode() + b"\n",
        "BINPERSID": several(text("storage"), label, text("0"), arg, number(6)) + b"Q",
        "persistent call": label + one + b"RQ",
        "argument of OrderedDict": name("collections", "OrderedDict") + several(label) + b"R",
        "pairs of OrderedDict": name("collections", "OrderedDict")
        + several(b"]" + several(arg, label) + b"a")
        + b"R",
        "parameter": name("torch._utils", "_rebuild_parameter")
        + several(label, b"\x89", ORDERED)
        + b"R",
        "hooks": name("torch._utils", "_rebuild_tensor_v2")
        + several(storage("Float", "0", 6), number(0), several(number(6)), several(number(1)))
        + b"R",
        "set item": label + arg + arg + b"s",
        "append": label + arg + b"a",
        "reconstructor": name("copyreg", "_reconstructor") + several(label, label, b"N") + b"R",
    }


def program(rng: random.Random, legacy: bool, argument: str) -> bytes:
    """The pickle of a state dict with something wrong in it, or hostile, or foreign."""
    items = entries(legacy)
    at = rng.randrange(len(items))
    choice = rng.randrange(8)
    if choice == 0:
        module, what = rng.choice(HOSTILE + INERT)
        ways = attacks(module, what, argument)
        items[at] = (items[at][0], ways[rng.choice(sorted(ways))])
    elif choice == 1:  # in a training checkpoint, beside the weights
        module, what = rng.choice(HOSTILE + INERT)
        ways = attacks(module, what, argument)
        aside = rng.choice(sorted(ways))
        parts = [("model", dictionary(items)), ("args", ways[aside])]
        return HEAD + dictionary(parts[:: rng.choice((1, -1))]) + END
    elif choice == 2:  # a tensor that lies about where it is
        lie = [rng.choice(LIES) for _ in range(4)]
        rank = rng.choice((0, 1, 2, 3, 65))
        shape = tuple(rng.choice((1, 2, 3, *LIES)) for _ in range(rank))
        strides = tuple(rng.choice((1, 0, -1, *LIES)) for _ in range(rank))
        store = storage("Float", str(rng.choice((0, 0, 1, 99))), rng.choice((6, 6, lie[0])))
        items[at] = (items[at][0], tensor(store, rng.choice((0, 0, 1, lie[1])), shape, strides))
    elif choice == 3:  # deep, or wide
        depth = rng.choice((100, 2_000, 20_000))
        opener, closer = rng.choice(((b"(", b"t"), (b"]", b"a"), (b"", b"\x85"), (b"}K\x01", b"s")))
        items[at] = (items[at][0], opener * depth + b"N" + closer * depth)
    elif choice == 4:  # fragments in any order
        pieces = [value for _, value in items] + [ORDERED, b"(", b"t", b"R", b"}", b"s", b"u", b"]"]
        pieces += [b"e", b"b", b"q\x00", b"h\x00", b"Q", b"\x81", b"0", b"2", b"N", text("model")]
        return HEAD + b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 60))) + END
    elif choice == 5:  # goes round in a circle, or doubles itself
        circle = b"}q\x00" + text("model") + b"h\x00s"
        doubling = b")" + b"q\x01h\x01\x86" * rng.randrange(1, 200)
        return HEAD + rng.choice((circle, dictionary([("a", doubling), *items]))) + END
    elif choice == 6:
        items[at] = (items[at][0], window(rng, legacy))
    else:
        return damaged(HEAD + dictionary(items) + END, rng)
    return HEAD + dictionary(items) + END


def window(rng: random.Random, legacy: bool) -> bytes:
    """An unusual tensor on numbers that are there; about half of them fit."""
    key = rng.randrange(len(STATE))
    array = list(STATE.values())[key]
    kinds = CLASSES_BY_SIZE[array.itemsize]
    kind = rng.choice((CLASSES[array.dtype.name], *kinds))
    rank, most = rng.randrange(4), max(1, array.size)
    shape = tuple(rng.randrange(4) for _ in range(rank))
    strides = tuple(rng.randrange(4) for _ in range(rank))
    part = several(text("v"), number(rng.randrange(most)), number(rng.randrange(most + 1)))
    more = [rng.choice((b"N", b"N", part))] * legacy
    store = storage(kind, str(key), array.size, *more)
    made = tensor(store, rng.randrange(most), shape, strides)
    if rng.random() < 0.1:  # the remark that its numbers are the conjugates of what lies there
        made = made.removesuffix(b"tR") + b"}" + text("conj") + b"\x88stR"
    return name("torch._utils", "_rebuild_parameter") + several(made, b"\x88", ORDERED) + b"R"


def lying_pth(rng: random.Random, argument: str) -> bytes:
    numbers = [raw(array) for array in STATE.values()]
    if rng.random() < 0.2:
        at = rng.randrange(len(numbers))
        numbers[at] = damaged(numbers[at] + b"\x00", rng)
    return pth_file(program(rng, False, argument), numbers)


def lying_legacy(rng: random.Random, argument: str) -> bytes:
    return legacy_file(program(rng, True, argument))


def lying_safetensors(rng: random.Random, argument: str) -> bytes:
    table = safetensors_table()
    entry = table[rng.choice(sorted(table))]
    choice = rng.randrange(6)
    if choice == 0:
        entry["data_offsets"] = [rng.choice(LIES) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    elif choice == 1:
        entry["shape"] = [rng.choice(LIES) for _ in range(rng.choice((0, 1, 2, 3, 65)))]
    elif choice == 2:
        entry["dtype"] = rng.choice(("F8_E4M3", "I32", "U8", "BF16", "os.system", "F4", 7, None))
    elif choice == 3:  # on top of another one
        entry.update(table["layers.0.weight"])
    elif choice == 4:
        nested = rng.choice(("[", '{"a":')) * rng.choice((100, 5_000, 50_000))
        return safetensors_file(nested.encode())
    else:
        header = damaged(json.dumps(table).encode(), rng)
        return safetensors_file(header)
    return safetensors_file(json.dumps(table).encode())


def lying_npz(rng: random.Random, argument: str) -> bytes:
    members = {f"{label}.npy": npy(array) for label, array in STATE.items()}
    label = rng.choice(sorted(members))
    array = STATE[label.removesuffix(".npy")]
    choice = rng.randrange(7)
    if choice == 0:
        shape = tuple(rng.choice(LIES) for _ in range(rng.choice((0, 1, 2, 3, 65))))
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    elif choice == 1:
        descr = rng.choice(
            ("'|O'", "'<f3'", "'>i8'", "[('a', '<f4')]", "__import__('os')", "'<M8'")
        )
        header = f"{{'descr': {descr}, 'fortran_order': True, 'shape': {array.shape}, }}"
    elif choice == 2:
        header = rng.choice("([{-") * rng.choice((10, 5_000, 60_000))
    elif choice == 3:  # a bomb
        return bomb(rng.choice((1 << 20, 3 * ALLOWANCE)), rng)
    elif choice == 4:
        return overlapping(zip_file(members), rng)
    elif choice == 5:  # unusual, but sound: another kind, the other order, packed
        descr = rng.choice("<>") + rng.choice(("f", "i", "u")) + str(max(2, array.itemsize))
        shape = (array.nbytes // max(2, array.itemsize),) if array.ndim < 2 else array.shape
        header = f"{{'descr': '{descr}', 'fortran_order': {rng.random() < 0.5}, 'shape': {shape}}}"
        members[label] = npy(array, header)
        return zip_file(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    else:
        members[label] = damaged(members[label], rng)
        return zip_file(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    members[label] = npy(array, header)
    return zip_file(members)


@functools.cache
def packed_zeros(size: int) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}"
    content = npy(np.zeros(0, np.uint8), header) + bytes(size)
    return zip_file({"a.npy": npy(STATE["scale"]), "b.npy": content}, zipfile.ZIP_DEFLATED)


def bomb(size: int, rng: random.Random) -> bytes:
    """A file that is far smaller than its array, sometimes with a directory that denies it."""
    content = bytearray(packed_zeros(size))
    if rng.random() < 0.5:
        directory = content.rfind(b"PK\x01\x02")
        content[directory + 24 : directory + 28] = struct.pack("<I", rng.choice((0, 100, 1 << 31)))
    return bytes(content)


def overlapping(content: bytes, rng: random.Random) -> bytes:
    """Two entries of the directory that point to the same place, or sizes that reach too far."""
    made = bytearray(content)
    places = []
    while (at := made.find(b"PK\x01\x02", places[-1] + 1 if places else 0)) >= 0:
        places.append(at)
    one, other = rng.sample(places, 2)
    field = rng.choice((42, 20, 24, 16))
    made[one + field : one + field + 4] = made[other + field : other + field + 4]
    return bytes(made)


LYING: dict[str, Callable[[random.Random, str], bytes]] = {
    "safetensors": lying_safetensors,
    "npz": lying_npz,
    "pth": lying_pth,
    "legacy": lying_legacy,
}


def make(form: str, seed: int, index: int, argument: str) -> tuple[bytes, bool]:
    """File `index` of a format, and whether its bytes were damaged behind a check sum's back."""
    rng = random.Random(f"{seed} {form} {index}")
    if index % 2:
        return LYING[form](rng, argument), False
    return damaged(_WHOLE[form], rng), True


_WHOLE = whole()

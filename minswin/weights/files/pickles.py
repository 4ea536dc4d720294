"""An interpreter for pickles that can run nothing.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever the
program names. This one has the opcodes that torch.save writes by any protocol, over plain data, and
no others.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import Any

from minswin.weights.files.mapped import BadFile, short
from minswin.weights.files.pickle_machine import LIMIT, MARKS, Foreign, Machine, decode

_REFUSED = {  # opcodes that call or import, by name
    0x69: "INST",
    0x6F: "OBJ",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
}
_PROTOCOL_0 = b"PSVFpgdl"  # opcodes that only protocol 0 uses; P stands for a tensor, as a text


def run_pickle(
    data: bytes | mmap.mmap,
    start: int,
    *,
    find: Callable[[str, str], object],
    persistent: Callable[[object], object],
) -> tuple[Any, int]:
    """The object that the pickle at `start` describes, and where the pickle ends.

    `find(module, name)` gives what a name means, `persistent(id)` what an id does.
    """
    machine = Machine(data, start, find, persistent)
    try:
        return _run(machine), machine.at
    except BadFile as error:
        raise BadFile(f"{error} (byte {machine.at:,} of its pickle)") from None


def _run(machine: Machine) -> Any:
    while (code := machine.take(1)[0]) != b"."[0]:
        handler = _HANDLERS.get(code)
        if handler is None and code in _PROTOCOL_0:
            raise BadFile(
                "was saved with pickle_protocol=0, which keeps no tensors: torch itself cannot "
                "load it; save it again without pickle_protocol="
            )
        if handler is None:
            name = _REFUSED.get(code, "unknown here")
            raise BadFile(f"has opcode 0x{code:02x} ({name}), which torch.save does not write")
        handler(machine)
    return machine.pop()


_Handler = Callable[[Machine], None]
_HANDLERS: dict[int, _Handler] = {}


def opcode(*codes: bytes) -> Callable[[_Handler], _Handler]:
    def enter(handler: _Handler) -> _Handler:
        _HANDLERS.update({code[0]: handler for code in codes})
        return handler

    return enter


# ── plain values ─────────────────────────────────────────────────────────────────────────────────


@opcode(b"\x80")
def _proto(m: Machine) -> None:
    if not 2 <= (version := m.take(1)[0]) <= 5:
        raise BadFile(f"has a pickle of protocol {version}, expected 1 to 5; it is damaged")


@opcode(b"\x95")
def _frame(m: Machine) -> None:
    """Where a part of the pickle ends, for those that read piece by piece."""
    m.take(8)


def _constant(code: bytes, value: object) -> None:
    _HANDLERS[code[0]] = lambda m: m.push(value)


_constant(b"N", None)
_constant(b"\x88", True)
_constant(b"\x89", False)
_constant(b")", ())


def _number(code: bytes, form: str) -> None:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)
    _HANDLERS[code[0]] = lambda m: m.push(unpack(m.take(size))[0])


_number(b"J", "<i")
_number(b"K", "<B")
_number(b"M", "<H")
_number(b"G", ">d")


def _sized(m: Machine, width: int) -> bytes:
    """The bytes that follow their own number, which takes `width` bytes."""
    return m.take(int.from_bytes(m.take(width), "little"))


@opcode(b"\x8a")
def _long1(m: Machine) -> None:
    m.push(int.from_bytes(_sized(m, 1), "little", signed=True))


@opcode(b"\x8b")
def _long4(m: Machine) -> None:
    """A number of more than 255 bytes counts nothing in a file: what it is does not matter."""
    _sized(m, 4)
    m.push(None)


@opcode(b"I", b"L")
def _line_number(m: Machine) -> None:
    """A whole number in digits, as protocol 1 writes it; 00 and 01 are False and True."""
    digits = m.line().removesuffix("L")
    if not digits.removeprefix("-").isdecimal() or len(digits) > 25:
        raise BadFile(f"has {short(digits)} where a number is expected; it is damaged")
    m.push({"00": False, "01": True}.get(digits, int(digits)))


@opcode(b"X")
def _binunicode(m: Machine) -> None:
    m.push(decode(_sized(m, 4)))


@opcode(b"\x8c")
def _short_binunicode(m: Machine) -> None:
    m.push(decode(_sized(m, 1)))


@opcode(b"\x8d")
def _binunicode8(m: Machine) -> None:
    m.push(decode(_sized(m, 8)))


@opcode(b"U", b"T")
def _binstring(m: Machine) -> None:
    """A text of Python 2, where it is one, or bytes."""
    raw = _sized(m, 1 if m.data[m.at - 1] == b"U"[0] else 4)
    m.push(raw.decode() if raw.isascii() else raw)


@opcode(b"C", b"B", b"\x8e", b"\x96")
def _binbytes(m: Machine) -> None:
    """Bytes of protocol 3 and later, and a bytearray of protocol 5."""
    m.push(_sized(m, {b"C"[0]: 1, b"B"[0]: 4}.get(m.data[m.at - 1], 8)))


# ── the stack and the memo ───────────────────────────────────────────────────────────────────────


@opcode(b"(")
def _mark(m: Machine) -> None:
    if len(m.marks) == MARKS:
        raise BadFile(f"nests more than {MARKS:,} deep; it is damaged or hostile")
    m.marks.append(len(m.stack))


@opcode(b"0")
def _pop(m: Machine) -> None:
    m.pop()


@opcode(b"1")
def _pop_mark(m: Machine) -> None:
    m.pop_to_mark()


@opcode(b"q", b"r")
def _put(m: Machine) -> None:
    size = 1 if m.data[m.at - 1] == b"q"[0] else 4
    index = int.from_bytes(m.take(size), "little")
    if index >= LIMIT:  # entries are counted from 0 on: there are fewer of them than bytes
        raise BadFile(f"stores an entry {index:,}; it is damaged or hostile")
    m.memo[index] = m.top()


@opcode(b"\x94")
def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.top()


@opcode(b"h", b"j")
def _get(m: Machine) -> None:
    size = 1 if m.data[m.at - 1] == b"h"[0] else 4
    index = int.from_bytes(m.take(size), "little")
    if index not in m.memo:
        raise BadFile(f"recalls entry {index:,}, which it did not store; it is damaged")
    m.push(m.memo[index])


# ── collections ──────────────────────────────────────────────────────────────────────────────────


@opcode(b"]")
def _empty_list(m: Machine) -> None:
    m.push([])


@opcode(b"}")
def _empty_dict(m: Machine) -> None:
    m.push({})


@opcode(b"\x8f")
def _empty_set(m: Machine) -> None:
    m.push(frozenset())


@opcode(b"\x90")
def _add_items(m: Machine) -> None:
    """What is put into a set is left out, as keys that are no texts are (set_items)."""
    m.pop_to_mark()
    if not isinstance(target := m.top(), frozenset | Foreign):
        raise BadFile(f"adds to a {type(target).__name__}; it is damaged or hostile")


@opcode(b"\x91")
def _frozen_set(m: Machine) -> None:
    m.pop_to_mark()
    m.push(frozenset())


@opcode(b"t")
def _tuple(m: Machine) -> None:
    m.push(tuple(m.pop_to_mark()))


@opcode(b"\x85", b"\x86", b"\x87")
def _short_tuple(m: Machine) -> None:
    count = m.data[m.at - 1] - 0x84
    m.push(tuple(m.pop() for _ in range(count))[::-1])


@opcode(b"a", b"e")
def _append(m: Machine) -> None:
    items = [m.pop()] if m.data[m.at - 1] == b"a"[0] else m.pop_to_mark()
    target = m.top()
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Foreign):
        raise BadFile(f"appends to a {type(target).__name__}; it is damaged or hostile")


@opcode(b"s", b"u")
def _set_items(m: Machine) -> None:
    single = m.data[m.at - 1] == b"s"[0]
    items = [m.pop(), m.pop()][::-1] if single else m.pop_to_mark()
    set_items(m.top(), items)


def set_items(target: object, items: list[Any]) -> None:
    """Enter key, value, key, value ... A key that is not a text names no tensor and is left out:
    hashing what a stranger nested, or numbers that he chose, can be made slow."""
    if isinstance(target, Foreign):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise BadFile(f"sets items of a {type(target).__name__}; it is damaged or hostile")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str):
            target[key] = value


# ── names and calls ──────────────────────────────────────────────────────────────────────────────


@opcode(b"c")
def _global(m: Machine) -> None:
    module = m.line()
    m.push(m.find(module, m.line()))


@opcode(b"\x93")
def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise BadFile(f"names something by a {type(name).__name__}; it is damaged or hostile")
    m.push(m.find(module, name))


@opcode(b"R", b"\x81")
def _call(m: Machine) -> None:
    args = m.pop()
    m.push(m.call(m.pop(), args))


@opcode(b"\x92")
def _call_with_names(m: Machine) -> None:
    """NEWOBJ_EX: what is foreign stays a label; no rule takes arguments by name."""
    names, args, callee = m.pop(), m.pop(), m.pop()
    if not isinstance(callee, Foreign) or not isinstance(names, dict):
        raise BadFile(f"calls a {type(callee).__name__} by names; it is damaged or hostile")
    m.push(m.call(callee, args))


@opcode(b"b")
def _build(m: Machine) -> None:
    """The state of an object: the remarks of a state dict (_metadata), or of a label; dropped."""
    m.pop()
    if not isinstance(target := m.top(), dict | Foreign):
        raise BadFile(f"gives a state to a {type(target).__name__}; it is damaged or hostile")


@opcode(b"Q")
def _binpersid(m: Machine) -> None:
    m.push(m.persistent(m.pop()))


def dictionary(*args: object) -> dict[Any, Any]:
    """Rule for OrderedDict: empty, or from the list of pairs that Python 2 wrote."""
    made: dict[Any, Any] = {}
    pairs = args[0] if args else []
    if not isinstance(pairs, list | tuple):
        raise BadFile(f"makes a dictionary from a {type(pairs).__name__}; it is damaged")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadFile("makes a dictionary from what is not pairs; it is damaged")
        set_items(made, list(pair))
    return made


def no_names(module: str, name: str) -> object:
    raise BadFile(f"names {short(f'{module}.{name}')} where only numbers are expected")


def no_ids(pid: object) -> object:
    raise BadFile("refers to a storage where only numbers are expected; it is damaged")

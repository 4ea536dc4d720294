"""The stack machine of a pickle, without the power to import or to call anything of others.

A name of the pickle is looked up in our table. What is not in it becomes a Foreign: a
label without behaviour, which swallows what the program does to it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minswin.weights.files.mapped import BadFile, short

LIMIT = 8 << 20  # bytes of one pickle; that of a model with 1,000 tensors has about 200,000
MARKS = 1_000  # open at once

# No weights need these names. Safety does not rest on the list, since nothing is imported anyway:
# it is for the owner of a file, who should learn what the file tried.
_HOSTILE = frozenset(
    {
        *("os", "posix", "nt", "subprocess", "commands", "popen2", "pty", "signal", "shutil"),
        *("sys", "importlib", "imp", "runpy", "code", "codeop", "types", "operator", "ctypes"),
        *("pickle", "_pickle", "marshal", "pdb", "bdb", "trace", "timeit", "cProfile", "profile"),
        *("socket", "asyncio", "urllib", "http", "ftplib", "smtplib", "webbrowser"),
        *("site", "pip", "setuptools", "distutils"),
    }
)
_BUILTINS = frozenset({"builtins", "__builtin__", "__builtins__"})
_HARMLESS = frozenset(
    {
        *("set", "frozenset", "slice", "complex", "bytearray", "range", "xrange", "object"),
        *("int", "long", "float", "bool", "str", "unicode", "bytes", "list", "tuple", "dict"),
        *("Ellipsis", "NotImplemented"),
    }
)


class Foreign:
    """A class, a function or an object of another library: its name and nothing else."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(frozen=True)
class Rule:
    """A function of minswin that a pickle may call, and how many arguments it takes."""

    function: Callable[..., Any]
    least: int
    most: int


def foreign(module: str, name: str) -> Foreign:
    """The label for a name that is in no table; a name that only an attack uses is refused."""
    suspect = module.partition(".")[0] in _HOSTILE
    if suspect or (module in _BUILTINS and name not in _HARMLESS):
        raise BadFile(
            f"names {short(f'{module}.{name}')}, which no weights need; nothing was run: "
            "delete the file, or ask the one who made it for a .safetensors file"
        )
    return Foreign(f"{module}.{name}")


class Machine:
    """The state of a program: a stack with marks in it, a memo, and a place in the text."""

    def __init__(
        self,
        data: bytes | mmap.mmap,
        start: int,
        find: Callable[[str, str], object],
        persistent: Callable[[object], object],
    ) -> None:
        self.data, self.at, self.end = data, start, min(len(data), start + LIMIT)
        self.find, self.persistent = find, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.effort = self.end - start  # elements that all calls together may handle

    def take(self, count: int) -> bytes:
        if self.at + count > self.end:
            why = f"is longer than {LIMIT:,} bytes" if self.end < len(self.data) else "is cut off"
            raise BadFile(f"has a pickle that {why}; it is damaged: fetch it again")
        self.at += count
        return self.data[self.at - count : self.at]

    def line(self) -> str:
        stop = self.data.find(b"\n", self.at, min(self.end, self.at + 256))
        if stop < 0:
            raise BadFile("has a name without an end; it is damaged")
        text = self.take(stop + 1 - self.at)[:-1]
        return decode(text)

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise BadFile("takes from an empty stack; it is damaged")
        return self.stack.pop()

    def top(self) -> Any:
        self.push(value := self.pop())
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise BadFile("lacks a mark; it is damaged")
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def call(self, callee: object, args: object) -> object:
        """What a call gives: our rule's result, or one more label for what is foreign."""
        if not isinstance(args, tuple):
            raise BadFile(f"calls with a {type(args).__name__} for arguments; it is damaged")
        if isinstance(callee, Foreign):
            return callee
        if not isinstance(callee, Rule):
            raise BadFile(f"calls a {type(callee).__name__}; it is damaged or hostile")
        if not callee.least <= len(args) <= callee.most:
            raise BadFile(
                f"calls with {len(args)} arguments, expected {callee.least}; it is damaged"
            )
        self.effort -= sum(len(a) for a in args if isinstance(a, tuple | list | dict))
        if self.effort < 0:
            raise BadFile("makes the reader work for too long; it is damaged or hostile")
        return callee.function(*args)


def decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadFile("has a text that is not UTF-8; it is damaged") from None

"""Reads the tables of names, and takes weights from one side of a table to the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from math import isqrt, prod
from typing import Any, NamedTuple

import numpy as np

from minswin.arguments import Pair
from minswin.weights.families import FAMILIES, MINSWIN
from minswin.weights.families.family import State

OURS, THEIRS = 0, 1  # the sides of a table
ZEROS = "0"
_NUMBER = re.compile(r"\{(\d*)([a-z])(?:\+(\d+))?\}")  # {i}, {2i+1}
_LEAF = r"((?:\.(?:weight|bias|running_mean|running_var|num_batches_tracked))?)"


class Name(NamedTuple):
    """One name of a table, which stands for many: `features.{2i+1}.{j}.norm1`."""

    text: str
    pattern: re.Pattern[str]
    numbers: tuple[tuple[str, int, int], ...]  # letter, factor, summand

    def match(self, name: str) -> tuple[dict[str, int], str] | None:
        """The numbers in a name and what follows it (".weight", …), if it is one of these."""
        match = self.pattern.fullmatch(name)
        if match is None:
            return None
        values = {}
        for (letter, factor, summand), digits in zip(self.numbers, match.groups(), strict=False):
            value, rest = divmod(int(digits) - summand, factor)
            if rest or value < 0:
                return None
            values[letter] = value
        return values, match.groups()[-1]

    def write(self, values: Mapping[str, int], leaf: str) -> str:
        numbers = iter(str(factor * values[x] + more) for x, factor, more in self.numbers)
        return _NUMBER.sub(lambda _: next(numbers), self.text) + leaf


class Row(NamedTuple):
    """One line of a table: the arrays of each side, put together, are those of the other."""

    sides: tuple[tuple[Name, ...], tuple[Name, ...]]
    marks: tuple[str, ...]

    def unite(self, parts: Mapping[int, np.ndarray], side: int) -> np.ndarray | None:
        """The whole of the arrays of one side; None while one is missing."""
        names = self.sides[side]
        if any(k not in parts and name.text != ZEROS for k, name in enumerate(names)):
            return None
        if len(names) == 1:
            return parts[0]
        zeros = np.zeros_like(next(iter(parts.values())))
        return np.concatenate([parts.get(k, zeros) for k in range(len(names))])

    def divide(self, whole: np.ndarray, side: int) -> list[np.ndarray]:
        """The arrays of one side, from the whole of them: views, not copies."""
        names = self.sides[side]
        if len(names) == 1:
            return [whole]
        if whole.ndim == 0 or len(whole) % len(names):
            raise ValueError(
                f"rename: {self.sides[1 - side][0].text} has shape {whole.shape}, expected a first "
                f"axis that divides into {len(names)} equal parts: {_texts(names)}"
            )
        parts = np.split(whole, len(names))
        for name, part in zip(names, parts, strict=True):
            if name.text == ZEROS and part.any():
                raise ValueError(
                    f"rename: {self.sides[1 - side][0].text} has numbers other than 0 where it "
                    f"stands for {_texts(names)}; the other names have no place for them"
                )
        return parts


def _texts(names: tuple[Name, ...]) -> str:
    return ", ".join(name.text for name in names)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


Line = tuple[str, str, tuple[str, ...]]  # our name, theirs, marks


@cache
def rows(family: str, dialect: str) -> tuple[Row, ...]:
    """Our names and those of a dialect, line by line."""
    found = FAMILIES[family]
    names = found.names
    differences = found.own if dialect == MINSWIN else found.tables[dialect]
    stated, prefixes = _read(differences)
    mentioned = {ours for ours, _, _ in stated}
    for ours, _, _ in _read(names)[0]:
        if ours not in mentioned:
            begins = max((prefix for prefix in prefixes if ours.startswith(prefix)), key=len)
            stated.append((ours, prefixes[begins] + ours.removeprefix(begins), ()))
    return tuple(Row((_names(ours), _names(theirs)), marks) for ours, theirs, marks in stated)


def _read(text: str) -> tuple[list[Line], dict[str, str]]:
    """The lines of a table, and what the names that begin with a text begin with there."""
    lines: list[Line] = []
    prefixes = {"": ""}
    above = [(-1, "", "")]  # indent, our prefix, theirs
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        ours, theirs, *marks = line.split() if " " in line.strip() else (line.strip(), "=")
        while above[-1][0] >= indent:
            above.pop()
        _, our_prefix, their_prefix = above[-1]
        theirs = their_prefix + (ours if theirs == "=" else theirs)
        ours = our_prefix + ours
        if ours.endswith("*"):
            above.append((indent, ours[:-1], theirs[:-1]))
            prefixes[ours[:-1]] = theirs[:-1]
        else:
            lines.append((ours, theirs, tuple(marks)))
    return lines, prefixes


def _names(text: str) -> tuple[Name, ...]:
    """The names of one side of a line; `a.[b,c]` are a.b and a.c."""
    before, bracket, rest = text.partition("[")
    if not bracket:
        return (_name(text),)
    inside, _, after = rest.partition("]")
    return tuple(_name(before + x + after if x != ZEROS else x) for x in inside.split(","))


def _name(text: str) -> Name:
    numbers = tuple(
        (x, int(factor or 1), int(more or 0)) for factor, x, more in _NUMBER.findall(text)
    )
    pattern = r"(\d+)".join(map(re.escape, _NUMBER.split(text)[::4])) + _LEAF
    return Name(text, re.compile(pattern), numbers)


# ── from one side to the other ───────────────────────────────────────────────────────────────────


def translate(
    state: Mapping[str, np.ndarray],
    family: str,
    dialect: str,
    *,
    towards: int,
    words: Pair | None = None,
) -> tuple[State, list[str]]:
    """The arrays under the names of the other side, and the names that the table does not have.

    towards: OURS or THEIRS   words: rows and columns of TNT's words, where they are not a square
    """
    side = 1 - towards
    groups: dict[Any, dict[int, str]] = {}
    unknown = []
    for name in state:
        place = _place(name, family, dialect, side)
        if place is None:
            unknown.append(name)
        else:
            row, part, values, leaf = place
            groups.setdefault((row, tuple(values.items()), leaf), {})[part] = name
    out: State = {}
    for (row, values, leaf), names in groups.items():
        whole = row.unite({part: state[name] for part, name in names.items()}, side)
        if whole is None:
            unknown.extend(names.values())
            continue
        whole = _reshape(whole, row.marks, towards, words)
        parts = row.divide(whole, towards)
        for name, part in zip(row.sides[towards], parts, strict=True):
            if name.text != ZEROS:
                out[name.write(dict(values), leaf)] = part
    return out, unknown


def _place(
    name: str, family: str, dialect: str, side: int
) -> tuple[Row, int, dict[str, int], str] | None:
    """Row, part of it, numbers and leaf of a name."""
    for row in rows(family, dialect):
        if side == OURS and not {"read", "checked"}.isdisjoint(row.marks):
            continue  # these are not written
        for part, pattern in enumerate(row.sides[side]):
            match = pattern.match(name) if pattern.text != ZEROS else None
            if match is not None:
                return row, part, *match
    return None


def keeps(name: str, family: str, dialect: str) -> bool:
    """Whether files of this dialect hold the buffer that we call `name`."""
    return _place(name, family, dialect, OURS) is not None


def _reshape(x: np.ndarray, marks: tuple[str, ...], towards: int, words: Pair | None) -> np.ndarray:
    change = next((FORMS[mark] for mark in marks if mark in FORMS), None)
    return x if change is None else change(x, towards, words)


def _flat(index: np.ndarray, towards: int, _: Pair | None) -> np.ndarray:
    """Theirs (N²,), ours (N, N)."""
    if towards == THEIRS:
        return index.reshape(-1)
    side = isqrt(index.size)
    return index.reshape(side, side) if side * side == index.size else index


def _words(x: np.ndarray, towards: int, words: Pair | None) -> np.ndarray:
    """Theirs (1, c, rows, columns), ours (1, words, c)."""
    if x.ndim != 3 + (towards == OURS):
        return x  # of an unfitting shape: loading it will fail
    if towards == OURS:
        return np.ascontiguousarray(x.reshape(*x.shape[:2], -1).transpose(0, 2, 1))
    _, count, channels = x.shape
    grid = words or (isqrt(count), isqrt(count))
    if prod(grid) != count:
        raise ValueError(
            f"rename: {count} words of a patch are no square, so their rows and columns are not "
            "known; give the model that they are for as model="
        )
    return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(1, channels, *grid)


FORMS: dict[str, Callable[[np.ndarray, int, Pair | None], np.ndarray]] = {
    "flat": _flat,
    "words": _words,
}

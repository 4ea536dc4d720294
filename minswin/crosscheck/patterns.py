"""Patterns of names: {i} stands for a number, {i+1} for the next, * for anything."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

_PIECE = re.compile(r"(\{\w+(?:[+-]\d+)?\}|\*)")


def is_pattern(name: str) -> bool:
    """Whether a name has a {i} or a *."""
    return bool(_PIECE.search(name))


def matches(pattern: str, names: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The names that a pattern fits, with what {i} and * stand for."""
    if not is_pattern(pattern):
        yield from ((name, {}) for name in names if name == pattern)
        return
    seen: set[str] = set()
    text, stars = "", itertools.count()
    for piece in _PIECE.split(pattern):
        word = piece.strip("{}") if _PIECE.fullmatch(piece) and piece != "*" else ""
        if piece == "*":
            text += f"(?P<star{next(stars)}>.+)"
        elif not word:
            text += re.escape(piece)
        elif not word.isidentifier():
            raise ValueError(
                f"compare: the map has {piece!r} in {pattern!r}, where a name such as {{i}} was "
                "expected; numbers are added on the right of = only"
            )
        else:
            text += f"(?P={word})" if word in seen else rf"(?P<{word}>\d+)"
            seen.add(word)
    for name in names:
        if fitting := re.fullmatch(text, name):
            yield name, fitting.groupdict()


def filled(pattern: str, values: Mapping[str, str], left: str) -> str:
    """The name that a pattern is with these values, which the pattern left gave."""
    text, stars = "", itertools.count()
    for piece in _PIECE.split(pattern):
        if not _PIECE.fullmatch(piece):
            text += piece
            continue
        word = f"star{next(stars)}" if piece == "*" else piece.strip("{}")
        key, sign, more = re.fullmatch(r"(\w+?)(?:([+-])(\d+))?", word).groups()  # type: ignore[union-attr]
        if key not in values:
            raise ValueError(
                f"compare: the map has {piece!r} in {pattern!r}, and none in {left!r} that says "
                "what it stands for"
            )
        text += values[key] if not sign else str(int(values[key]) + int(sign + more))
    return text

"""A map of names: which tensor of theirs each of ours is, which are to be left out.

    # our name = their name
    head = fc
    layers.{i}.blocks.{j}.norm1 = stage{i+1}.{j}.ln     {i} stands for a number
    layers.{i}.blocks.{j}.mlp.* = stage{i+1}.{j}.mlp.*  * stands for anything
    *.attn.proj = -                                     is not compared
    - = *.num_batches_tracked                           is nothing of ours

What holds for a tensor holds for its cotangent and for the weight after training; what holds for a
layer holds for its weights. A line without {i} and * goes before one with them, and of those the
first that fits.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES
from minswin.crosscheck.patterns import filled, is_pattern, matches

__all__ = ["Resolved", "read_names", "resolve", "weight_names"]

NOTHING = "-"


def read_names(path: Path | str) -> list[tuple[str, str]]:
    """The lines "ours = theirs" of a map, or the pairs of a JSON object {"ours": "theirs"}.

    # begins a comment at the start of a line or after a space: it may stand inside a name.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"compare: the map {path} cannot be read: {error}") from None
    pairs = _of_json(path, text) if text.lstrip().startswith("{") else _of_lines(path, text)
    if not all(isinstance(name, str) for pair in pairs for name in pair):
        raise ValueError(f"compare: {path} must map names to names")
    counts = Counter(ours for ours, _ in pairs if ours != NOTHING)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"compare: {path} says twice what {twice[0]!r} is; leave one of them out")
    return pairs


def lines_of(names: Any) -> list[tuple[str, str]]:
    """The lines of a map: of its file, of a mapping, of pairs; none of None."""
    if isinstance(names, (str, Path)):
        return read_names(names)
    return list(names.items()) if isinstance(names, Mapping) else list(names or ())


def _of_json(path: Path | str, text: str) -> list[tuple[str, str]]:
    try:
        found: list[tuple[str, str]] = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        raise ValueError(f"compare: the map {path} is no JSON: {error}") from None
    return found


def _of_lines(path: Path | str, text: str) -> list[tuple[str, str]]:
    lines = (re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in text.splitlines())
    pairs = [line.partition("=") for line in lines if line]
    bad = next((left for left, equals, right in pairs if not (equals and right.strip())), None)
    if bad is not None:
        raise ValueError(f"compare: {path}: expected lines 'ours = theirs', got {bad!r}")
    return [(left.strip(), right.strip()) for left, _, right in pairs]


class Resolved(NamedTuple):
    """A map, applied to the names that there are."""

    pairs: dict[str, str]  # our names to theirs
    ours: set[str]  # that are not compared
    theirs: set[str]  # that are nothing of ours
    absent: list[str]  # lines that speak of tensors which are not there


def resolve(
    lines: Iterable[tuple[str, str]], ours: Iterable[str], theirs: Iterable[str]
) -> Resolved:
    """Apply a map.

    Raises where a line speaks of no tensor that a model of ours could have, or all lines speak of
    tensors that are absent.
    """
    ours, theirs, lines = list(dict.fromkeys(ours)), set(theirs), list(lines)
    found, known, used = Resolved({}, set(), set(), []), set(ours), set()
    for left, right in lines:
        if left == NOTHING:
            found.theirs.update(name for name, _ in matches(right, theirs))
            used.add((left, right))
    for line, a, b in _said(lines, ours):
        for prefix in ("", COTANGENT, AFTER):
            x, y = prefix + a, prefix + b
            if x not in known or not (b == NOTHING or y in theirs):
                continue
            used.add(line)
            if x in found.pairs or x in found.ours:
                continue
            if b == NOTHING:
                found.ours.add(x)
            else:
                found.pairs[x] = y
    found.theirs.update(found.ours & theirs - set(found.pairs.values()))  # under the same name
    found.absent.extend(" = ".join(line) for line in lines if line not in used)
    if found.absent and len(found.absent) == len(lines):
        raise ValueError(
            f"compare: the map names what is not there: {'; '.join(found.absent[:3])}"
            f"{' …' if len(found.absent) > 3 else ''}; ours is left of =, theirs right"
        )
    return found


def weight_names(lines: Iterable[tuple[str, str]], weights: Iterable[str]) -> dict[str, str]:
    """Our weights to theirs: those that lines speak of, and those of layers that lines speak of."""
    weights = list(weights)
    found: dict[str, str] = {}
    for _, a, b in _said(lines, weights, strict=False):
        if a in weights and b != NOTHING:
            found.setdefault(a, b)
    return found


def _said(
    lines: Iterable[tuple[str, str]], ours: Iterable[str], *, strict: bool = True
) -> Iterator[tuple[tuple[str, str], str, str]]:
    """The lines, and which pairs they say: first of names, then of what is directly inside them."""
    ours = list(ours)
    inside: dict[str, list[str]] = {}
    for name in ours:
        inside.setdefault(name.rpartition(".")[0], []).append(name)
    names = list(dict.fromkeys([*ours, *inside]))
    ordered = sorted(lines, key=lambda line: is_pattern("".join(line)))
    pairs = []
    for left, right in ordered:
        if left == NOTHING:
            continue
        fitting = list(matches(left, names))
        if not fitting and strict:
            _require_possible(left, right, ours)
        for name, values in fitting:
            theirs = NOTHING if right == NOTHING else filled(right, values, left)
            pairs.append(((left, right), name, theirs))
    yield from pairs
    for line, name, theirs in pairs:
        if theirs != NOTHING:
            yield from ((line, n, theirs + n.removeprefix(name)) for n in inside.get(name, ()))


def _require_possible(left: str, right: str, ours: list[str]) -> None:
    """Refuse a misspelt name of ours; other models and passes may have more tensors."""
    plain = re.sub(r"\{\w+\}", "0", left).removeprefix(COTANGENT).removeprefix(AFTER)
    kinds = {re.sub(r"\d+", "0", name) for name in ours}
    if left == LOSSES or "*" in left or re.sub(r"\d+", "0", plain) in kinds:
        return
    inner = next((name for name in ours if name.endswith("." + left)), "")
    near = [f"*.{left}"] if inner else difflib.get_close_matches(left, ours, 1, 0.5)
    raise ValueError(
        f"compare: the map names what is not there: {left} = {right}"
        + (f"; did you mean {near[0]}?" if near else "")
        + "; ours is left of =, theirs right"
    )

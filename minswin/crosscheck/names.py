"""A map of names: which tensor of theirs each of ours is, which are to be left out; a draft of one,
and the names that known libraries give to their layers, for what no map is needed.

    # our name = their name
    head = fc
    layers.{i}.blocks.{j}.norm1 = stage{i+1}.{j}.ln     {i} stands for a number
    layers.{i}.blocks.{j}.mlp.* = stage{i+1}.{j}.mlp.*  * stands for anything
    *.attn.proj = -                                     is not compared
    - = *.num_batches_tracked                           is nothing of ours
    *.mlp.gelu = !                                      is a choice: taken as it is given
    layers.{i}.blocks.{j}.norm2 = stage{i+1}.{j}.ln !   is this one, and a choice

A choice is judged no further, and what comes behind is judged from it: so the next divergence
shows. Its gradient, up to the nearest tensors of theirs in front, is taken too. What holds for a
tensor holds for its cotangent and for the weight after training; what holds for a layer holds for
its weights. A line without {i} and * goes before one with them, and of those the first that fits.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import opening
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES
from minswin.weights.families import FAMILIES, TABLES
from minswin.weights.families.rows import THEIRS, translate

__all__ = ["Resolved", "draft", "known_layers", "read_names", "resolve", "weight_names"]

Array = np.ndarray
NOTHING = "-"
CHOICE = "!"
_PIECE = re.compile(r"(\{\w+(?:[+-]\d+)?\}|\*)")  # {i}, {i+1}: a number; *: anything
_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")  # of a stage or block: not the 1 of norm1
_NUMBERED = re.compile(r"(.*\.\d+)\..")  # a block or a stage, and what is in it


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_names(path: Path | str) -> list[tuple[str, str]]:
    """The lines "ours = theirs" of a map, or the pairs of a JSON object {"ours": "theirs"}.

    # begins a comment at the start of a line or after a space: it may stand inside a name.
    """
    try:
        text = opening.read_text(path, who="compare", encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"compare: the map {path} is no text in UTF-8; save it as one") from None
    except (OSError, ValueError) as error:
        why = str(error).removeprefix("compare: ")
        raise ValueError(f"compare: the map {path} cannot be read: {why}") from None
    if text.lstrip().startswith("{"):
        try:
            pairs = json.loads(text, object_pairs_hook=list)
        except ValueError as error:
            raise ValueError(f"compare: the map {path} is no JSON: {error}") from None
    else:
        pairs = _of_lines(path, text)
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


def _of_lines(path: Path | str, text: str) -> list[tuple[str, str]]:
    lines = (re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in text.splitlines())
    pairs = [line.partition("=") for line in lines if line]
    bad = next((left for left, equals, right in pairs if not (equals and right.strip())), None)
    if bad is not None:
        raise ValueError(f"compare: {path}: expected lines 'ours = theirs', got {bad!r}")
    return [(left.strip(), right.strip()) for left, _, right in pairs]


# ── applying ─────────────────────────────────────────────────────────────────────────────────────


class Resolved(NamedTuple):
    """A map, applied to the names that there are."""

    pairs: dict[str, str]  # our names to theirs
    ours: set[str]  # that are not compared
    theirs: set[str]  # that are nothing of ours
    absent: list[str]  # lines that speak of tensors which are not there
    choices: dict[str, str]  # ours that are taken as they are given, and the line of each


def _without_marks(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The lines that pair, without the mark of a choice."""
    for left, right in lines:
        if theirs := right.removesuffix(CHOICE).strip():
            yield left, theirs


def resolve(
    lines: Iterable[tuple[str, str]], ours: Iterable[str], theirs: Iterable[str]
) -> Resolved:
    """Apply a map.

    Raises where a line speaks of no tensor that a model of ours could have, or all lines speak of
    tensors that are absent.
    """
    ours, theirs, marked = list(dict.fromkeys(ours)), set(theirs), list(lines)
    found, known, used = Resolved({}, set(), set(), [], {}), set(ours), set()
    lines = list(_without_marks(marked))
    for left, right in marked:
        if not right.endswith(CHOICE):
            continue
        if not (fitting := [name for name, _ in matches(left, ours)]):
            _require_possible(left, right, ours)
        found.choices.update(dict.fromkeys(fitting, f"{left} = {right}"))
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
            if b == NOTHING and x not in found.pairs:
                found.ours.add(x)
            elif x not in found.ours:
                found.pairs.setdefault(x, y)
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
    for _, a, b in _said(_without_marks(lines), weights, strict=False):
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
    ordered = sorted(lines, key=lambda line: _PIECE.search("".join(line)) is not None)
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


# ── patterns ─────────────────────────────────────────────────────────────────────────────────────


def matches(pattern: str, names: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The names that a pattern fits, with what {i} and * stand for."""
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


# ── a draft ──────────────────────────────────────────────────────────────────────────────────────


def draft(
    pairs: Mapping[str, str], ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> Iterator[str]:
    """Lines of a map that holds these pairs, with patterns where the numbers in them allow it.

    A pattern pairs the tensors of wrong blocks too, which have the values of none of ours. What is
    still left is written as comments, with those of ours that have such sizes.
    """
    pairs, ours = map(_without_gradients, (pairs, ours))
    split = {a: (a.rpartition("."), b.rpartition(".")) for a, b in pairs.items()}
    # of what the line of its layer holds for, as for its weight under the same word
    covered = {
        a: pairs[a] for a, (x, y) in split.items() if x[2] == y[2] and pairs.get(x[0]) == y[0]
    }
    waiting, lines = {a: b for a, b in pairs.items() if a not in covered}, []
    while waiting:
        a, b = next(iter(waiting.items()))
        every = ((line, _covered(line, ours, theirs, pairs)) for line in _generalised(a, b))
        line, held = max(every, key=lambda one: (len(one[1]), _in_order(*one[0])))
        line, held = (line, held) if len(held) > 1 else ((a, b), {a: b})
        lines.append(line)
        covered |= held
        waiting = {x: y for x, y in waiting.items() if x not in covered}
    width = max((len(left) for left, _ in lines), default=0)
    yield "# our name = their name"
    yield from (f"{left:{width}} = {right}" for left, right in lines)
    twins = [np.ravel(theirs[n]) for n in covered.values()]
    free = {n: x for n, x in _without_gradients(theirs).items() if n not in covered.values()}
    free = {n: x for n, x in free.items() if not any(np.array_equal(np.ravel(x), y) for y in twins)}
    if free:
        yield "# theirs with the values of none of ours; those of ours whose sizes fit:"
        yield from _left_over({n: x for n, x in ours.items() if n not in covered}, free)


def _without_gradients(named: Mapping[str, Any]) -> dict[str, Any]:
    return {n: x for n, x in named.items() if not n.startswith((COTANGENT, AFTER))}


def _generalised(a: str, b: str) -> Iterator[tuple[str, str]]:
    """Patterns of which two names are one case: the numbers of theirs come from those of ours."""
    numbers = _INDEX.findall(a)
    left = _numbered(a)
    choices = []
    for text in re.findall(r"\d+", b):
        gaps = [(w, int(text) - int(n)) for w, n in zip("ijkl", numbers, strict=False)]
        near = [f"{{{w}{gap:+d}}}" if gap else f"{{{w}}}" for w, gap in gaps if abs(gap) <= 1]
        choices.append([*near, text])
    for chosen in itertools.product(*choices):
        filling = iter(chosen)
        yield left, re.sub(r"\d+", lambda _, f=filling: next(f), b)  # type: ignore[misc]
    yield a, b


def _numbered(name: str) -> str:
    """layers.{i}.blocks.{j}.norm1 for layers.0.blocks.1.norm1"""
    places = iter("ijkl")
    return _INDEX.sub(lambda _: f"{{{next(places)}}}", name)


def _in_order(left: str, right: str) -> bool:
    """Whether both sides have the same letters, each once."""
    return re.findall(r"\{(\w)", left) == re.findall(r"\{(\w)", right)


def _covered(
    line: tuple[str, str],
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    pairs: Mapping[str, str],
) -> dict[str, str]:
    """What a pattern pairs; nothing if it pairs what cannot be, or what is paired otherwise."""
    left, right = line
    every = {name: filled(right, values, left) for name, values in matches(left, ours)}
    found = {a: b for a, b in every.items() if b in theirs}
    bad = any(ours[a].size != theirs[b].size or pairs.get(a, b) != b for a, b in found.items())
    return {} if bad or len(set(found.values())) < len(found) else found


def _left_over(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Iterator[str]:
    """A comment for each kind of their names, to be uncommented, or answered with "-"."""
    kinds = dict.fromkeys(map(_numbered, ours))
    for right in dict.fromkeys(map(_numbered, theirs)):
        group = {n for n in theirs if _numbered(n) == right}
        fits = [
            left
            for left in kinds
            if _in_order(left, right)
            if set(_covered((left, right), ours, theirs, {}).values()) == group
        ]
        word = right.rpartition(".")[2]
        fits.sort(key=lambda n: -difflib.SequenceMatcher(None, n.rpartition(".")[2], word).ratio())
        others = ", ".join(n.rpartition(".")[2] for n in fits[1:5])
        yield f"#   {fits[0] if fits else NOTHING} = {right}" + (f"   (or {others})" * bool(others))


# ── known libraries ──────────────────────────────────────────────────────────────────────────────


def known_layers(weights: Mapping[str, tuple[int, ...]], theirs: Collection[str]) -> dict[str, str]:
    """Their names of layers, blocks and stages to ours, of the library that most of them are of.

    weights: the shapes of ours   theirs: names of tensors; those that are no layer's are left out
    """
    state = {n: np.broadcast_to(np.float32(i), s) for i, (n, s) in enumerate(weights.items())}
    found: dict[str, str] = {}
    for family, dialect in TABLES:
        if FAMILIES[family].may_be(state):
            named = {t: n for t, n in _layers(state, family, dialect) if t in theirs}
            found = max(found, named, key=len)
    return found


def _layers(state: Mapping[str, Array], family: str, dialect: str) -> Iterator[tuple[str, str]]:
    try:
        named, _ = translate(state, family, dialect, towards=THEIRS)
    except ValueError:  # words of TNT that are no square
        return
    ours = list(state)
    numbers = {t: int(x.flat[0]) for t, x in named.items() if t.endswith(".weight")}
    once = Counter(numbers.values())  # of q, k and v there are three
    for their, number in numbers.items():
        layer, mine = (n.removesuffix(".weight") for n in (their, ours[number]))
        while once[number] == 1:
            yield layer, mine
            a, b = _NUMBERED.match(layer), _NUMBERED.match(mine)
            if not (a and b):
                break
            layer, mine = a[1], b[1]

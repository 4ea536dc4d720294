"""One edit at all places of its kind: who gets a line wrong gets its sister lines wrong as well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, takewhile

from minswin.crosscheck.edits.texts import Change, Edit, Text

FEW = range(2, 5)  # places; of more it would be another function
SIGN = "another operation"  # of which two places of more may be wrong
REPEATED = (
    "left out", "an argument left out", "another function", "a reduction over another axis",
    "two calls in the other order", "twice", "a residual counted twice",
    "an operation comes later", "a residual once more", "another attribute", SIGN,
)  # fmt: skip


def everywhere(text: Text, edits: Sequence[Edit]) -> Iterator[tuple[list[Change], str, float]]:
    """Edits of one place each that write the same for the same, joined into one."""
    alike: dict[tuple[str, str, str], dict[tuple[int, int], Edit]] = {}
    for edit in edits:
        if len(edit.changes) == 1 and (edit.words in REPEATED or _of_a_name(text, edit)):
            a, b, new = _least(text, edit.changes[0])
            key = edit.words, _form(text.source[a:b]), _form(new)
            alike.setdefault(key, {}).setdefault((a, b), edit)
    for (words, _, _), places in alike.items():
        spans = sorted(places)
        apart = all(one[1] <= other[0] for one, other in pairwise(spans))
        for some in (spans, *combinations(spans, 2)) if len(spans) in FEW and apart else ():
            if some is spans or (words == SIGN and len(spans) > 2):
                changes = [places[span].changes[0] for span in some]
                yield changes, f"{words}, at {len(some)} places", places[some[0]].rank + 1


def _of_a_name(text: Text, edit: Edit) -> bool:
    """Whether it is another number for a constant that has a name: who has it wrong has it so."""
    ((a, b, _),) = edit.changes
    return edit.words == "another constant" and text.source[a:b].isidentifier()


def _least(text: Text, change: Change) -> Change:
    """The change without what stays at its two ends."""
    a, b, new = change
    old = text.source[a:b]
    if re.fullmatch(r"\(\w+\)", new):  # what is left of a sum: the rest was taken out
        new = new[1:-1]
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    return a + start, b - end, new[start : len(new) - end]


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _form(written: str) -> str:
    """The text with all parts of a layer called alike, and without further arguments."""
    return re.sub(r", \w+(?=\))", "", re.sub(r"\bself\.\w+", "self._", written))

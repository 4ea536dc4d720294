"""What every single edit makes of the logits of a tiny model: tables, to look an answer up in.

Where a port gives its logits and nothing else, each edit has to be run in all blocks at once, from
the image to the end. For the recipe's weights and image and the models of `TINY` that was done
once. A row of a table is the simplest edit that gives an answer, or the next of another kind, and
the first logits of the first image under it. What is found there is run once more on all their
images before it is told, so that a table can leave a mistake unnamed, but not name one wrongly.

    python -m minswin.crosscheck.fingerprints              how these models are traced
    python -m tests.fingerprints                           makes all tables again (4 CPU minutes)

A table holds edits of one place, but for those of `SEARCHED`: these, and edits of several places,
are tried when nothing in it fits. It also holds the digest of the texts it was made from. If one of
them was changed since, the table is not used, and the search runs as it does for other models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck.edits.classics import classics, edit_of
from minswin.crosscheck.edits.functions import functions_of, known_functions
from minswin.crosscheck.edits.loading import Loaded, Shared
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.ground import definitions
from minswin.crosscheck.search import Answer, Search, rms

Array = np.ndarray

# Sizes that all differ, with their sums and products: an edit that fits by chance is a wrong name.
SWIN = {
    "img_size": (24, 32), "patch_size": 2, "embed_dim": 20, "depths": (2, 2), "num_heads": (2, 4),
    "window_size": (3, 4), "num_classes": 7,
}  # fmt: skip
VIT = {
    "img_size": (12, 20), "patch_size": 4, "embed_dim": 22, "depth": 2, "num_heads": 2,
    "num_classes": 7,
}  # fmt: skip
WORDS = {"img_size": (16, 40), "patch_size": 8, "inner_dim": 12, "inner_num_heads": 3}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "V1": ("swin_tiny", SWIN),
    "V2": ("swinv2_cifar", SWIN),
    "ViT": ("vit_tiny", VIT),
    "TNT": ("tnt_small", {**VIT, **WORDS, "inner_stride": 2}),
    "V1 padded": ("swin_tiny", {**SWIN, "img_size": (20, 28)}),  # 3x4 divides no 10x14, no 5x7
}

FOLDER = Path(__file__).parent / "prints"
LOGITS = 3  # of the first image; a row that is near is run anyway
NEAR = 1e-4  # of the size of their logits: much more than float32 is off
MOST = 64  # rows that are run
SAME = 1e-9  # of the size: two edits that are nearer give one answer
LOADED = -1  # in the place of a function: an edit of the weights


SEARCHED = (  # kinds that no table holds
    "its numbers left out", "0 where it is masked", "blocks of elements that stand far apart",
    "a statement twice", "a residual counted twice", "another axis of a shape",
    "padded at the bottom and the right", "masked behind the softmax", "a softmax behind it",
    "an argument of another call", "read as if two axes were exchanged",
    "an operation on another argument too",
    "a reshape in the place of a part of a transposition",
)  # fmt: skip


def is_tabled(edit: Edit | Loaded) -> bool:
    """Whether the tables hold an edit of this kind."""
    several = isinstance(edit, Shared) or edit.words.endswith(" places")
    return not several and edit.words not in SEARCHED


class Table(NamedTuple):
    """The answers of one model, the simplest edit first."""

    digest: str  # of the texts
    right: Array  # (classes,) the logits of the first image
    functions: list[str]
    words: list[str]
    rows: list[Any]  # (function, of building, number of its words, rank, changes)
    values: Array  # (rows, LOGITS)

    def edits(self, search: Search, rows: Iterable[int] | None = None) -> list[Edit | Loaded]:
        """The edits of these rows, or of all; of a classic with its remedy and threads."""
        loaded, functions = search.loadings(), _functions()
        texts = {name: Text(functions[name]) for name in self.functions}
        met = [
            (c.function, edit_of(c, texts[c.function])) for c in classics() if c.function in texts
        ]
        known = {(function, edit.source): edit for function, edit in met}
        found: list[Edit | Loaded] = []
        for row in range(len(self.rows)) if rows is None else rows:
            number, of_building, words, rank, changes = self.rows[row]
            if number == LOADED:
                found.append(loaded[changes])
                continue
            name = self.functions[number]
            edit = Edit(texts[name], [tuple(c) for c in changes], self.words[words], rank)
            edit = known.get((name, edit.source), edit)
            edit.of_building = bool(of_building)
            found.append(edit)
        return found


def _functions() -> dict[str, Any]:
    functions = known_functions().values()
    return {f"{f.__module__}.{f.__qualname__}".removeprefix("minswin."): f for f in functions}


# ── looking up ───────────────────────────────────────────────────────────────────────────────────


def looked_up(table: Table, search: Search) -> list[Answer]:
    """The edits that give their logits.

    search: at the call of the whole model, of all their images
    """
    theirs = search.site.theirs
    off = np.abs(table.values - theirs[0, :LOGITS]).max(axis=1)
    near = np.flatnonzero(off <= max(NEAR, 16 * search.u) * rms(theirs))
    near = np.sort(near[np.argsort(off[near], kind="stable")[:MOST]])
    edits = table.edits(search, near)
    here = [e for e in edits if not getattr(e, "of_building", False)]
    building = [e for e in edits if getattr(e, "of_building", False)]
    answers = search.run(here, "answers that are known")
    answers = answers or (search.apart(building, "answers that are known") if building else [])
    for answer in answers:  # weights that a formula makes are seldom wrong
        answer.edits.sort(key=lambda e: isinstance(e, Loaded))
    return answers


def table_of(search: Search) -> Table | None:
    """The table of this model, weights and image, if it was made from the present texts."""
    if search.site.call.path or search.right.shape != search.site.theirs.shape:
        return None
    table = table_with(search.right)
    return table if table is not None and table.digest == digest(search) else None


def table_with(logits: Array) -> Table | None:
    """The table of the model whose right logits (B, classes) these are, whatever its texts."""
    first = logits[0] if logits.ndim == 2 else logits
    for table in filter(None, map(read, TINY)):
        same = first.shape == table.right.shape
        if same and rms(first - table.right) <= SAME * rms(table.right):
            return table
    return None


def digest(search: Search) -> str:
    """Of the texts of all functions that build the model or run in it, in a search."""
    build = search.site.ground.truth.build
    with definitions():
        run = functions_of(lambda: (build(np.dtype("float64")), search.site.run()))
    texts = [Text(f) for f in run]
    lines = sorted(f"{text.name}\n{text.source}" for text in texts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def read(family: str) -> Table | None:
    """The table of a family as it was written; None where there is none."""
    if not (file := file_of(family)).exists():
        return None
    with np.load(file) as arrays:
        told = json.loads(arrays["told"].tobytes())
        return Table(**told, right=arrays["right"], values=arrays["values"])


def file_of(family: str) -> Path:
    return FOLDER / f"{family.lower().replace(' ', '_')}.npz"


def command(family: str) -> str:
    """How the model of a family is traced."""
    name, settings = TINY[family]
    given = " ".join(f'--set "{n}={x}"' for n, x in settings.items())
    return f"minswin trace --model {name} {given} --no-grad -o truth"


if __name__ == "__main__":
    print("\n\n".join(map(command, TINY)))

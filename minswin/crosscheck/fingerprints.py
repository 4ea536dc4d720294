"""What every single edit makes of the logits of a tiny model: tables, to look an answer up in.

Where a port gives its logits and nothing else, each edit has to be run in all blocks at once, from
the image to the end. For the recipe's weights and image and the models of `TINY` that was done
once. A row of a table is the simplest edit that gives an answer, or the next of another kind, and
the first logits of the first image under it. What is found there is run once more on all their
images before it is told, so that a table can leave a mistake unnamed, but not name one wrongly.

    python -m minswin.crosscheck.fingerprints              how these models are traced
    python -m minswin.crosscheck.fingerprints --write      makes all tables again (4 CPU minutes)

A table holds edits of one place, but for those of `SEARCHED`: these, and edits of several places,
are tried when nothing in it fits. It also holds the digest of the texts it was made from. If one of
them was changed since, the table is not used, and the search runs as it does for other models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck import recipe
from minswin.crosscheck.edits.classics import Classic, classics, edit_of
from minswin.crosscheck.edits.functions import functions_of, known_functions
from minswin.crosscheck.edits.loading import Loaded, Shared
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.folder import builder
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.search import Answer, Clock, Search, Tell, rms
from minswin.crosscheck.site import sites_of
from minswin.crosscheck.trace import trace
from minswin.replacing import replacing

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
HUGE = 1e30  # float32 holds it
ALIKE = 2  # edits of other words that are kept of one answer
LOADED = -1  # in the place of a function: an edit of the weights


SEARCHED = (  # kinds that no table holds
    "its numbers left out", "0 where it is masked", "blocks of elements that stand far apart",
    "a statement twice", "a residual counted twice", "another axis of a shape",
    "padded at the bottom and the right", "masked behind the softmax", "a softmax behind it",
    "an argument of another call",
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
        known = {(c.function, e.source): e for c, e in _classics(texts)}
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


def _classics(texts: Mapping[str, Text]) -> Iterator[tuple[Classic, Edit]]:
    for one in classics():
        if one.function in texts:
            yield one, edit_of(one, texts[one.function])


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
    """Of the texts of all functions that build the model or run in it."""
    build = search.site.ground.truth.build
    texts = [Text(f) for f in functions_of(lambda: (build(np.dtype("float64")), search.site.run()))]
    lines = sorted(f"{text.name}\n{text.source}" for text in texts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def read(family: str) -> Table | None:
    """The table of a family as it was written; None where there is none."""
    if not (file := _file(family)).exists():
        return None
    with np.load(file) as arrays:
        told = json.loads(arrays["told"].tobytes())
        return Table(**told, right=arrays["right"], values=arrays["values"])


def _file(family: str) -> Path:
    return FOLDER / f"{family.lower().replace(' ', '_')}.npz"


# ── making ───────────────────────────────────────────────────────────────────────────────────────


def search_of(family: str, images: int = 1) -> Search:
    """The search at the whole of a tiny model, of which the logits alone are given."""
    name, settings = TINY[family]
    x, labels = recipe.images(images, 3, settings["img_size"]), recipe.labels(images, 7)
    truth = trace(builder(name, settings), x, labels, grad=False)
    logits = truth.steps["loss"].inputs[0]
    ground = Ground(truth, {logits: np.asarray(truth.arrays["float64"][logits])})
    return Search(sites_of(ground, logits)[0], 2.0**-24, Clock(3600))


def hypotheses(search: Search) -> Iterator[tuple[Edit | Loaded, int]]:
    """All edits that a table holds; the number is that of a change of weights."""
    seen: set[Any] = set()
    edits = [*search.classics(), *search.singles(seen), *search.of_building(seen)]
    yield from ((edit, LOADED) for edit in edits if is_tabled(edit))
    loaded = enumerate(search.loadings())
    yield from ((edit, number) for number, edit in loaded if is_tabled(edit))


def changed(search: Search, edit: Edit | Loaded) -> Array | None:
    """The logits (classes,) of the first image under an edit; None where they are as before."""
    value = search.value(edit)
    if value is None or value.shape != search.right.shape:
        return None
    return None if rms(value - search.right) <= 1e-11 * rms(search.right) else value[0]


def made(family: str, tell: Tell = lambda line: None) -> Table:
    """The table of a family, as the texts are now."""
    search = search_of(family)
    every = sorted(hypotheses(search), key=lambda both: both[0].cost)
    functions, words = _Numbers(), _Numbers()
    rows: list[Any] = []
    values: list[Array] = []
    known: dict[Any, set[str]] = {}
    for done, (edit, number) in enumerate(every):
        if done % 500 == 0:
            tell(f"{family}: {done:,} of {len(every):,} edits, {len(known):,} answers")
        value = changed(search, edit)
        if value is None:
            continue
        key = tuple(np.round(value / (SAME * rms(value) + 1e-300)))
        told = known.setdefault(key, set())
        if edit.words in told or len(told) == ALIKE:
            continue
        told.add(edit.words)
        if isinstance(edit, Edit):
            of_building = int(edit.of_building)
            own = (functions(edit.text.name), of_building, words(edit.words), edit.rank)
            rows.append([*own, edit.changes])
        else:
            rows.append([LOADED, 0, 0, edit.rank, number])
        values.append(value[:LOGITS])
    after = search.site.value()
    if after is None or not np.array_equal(after, search.right):
        raise RuntimeError(f"fingerprints: an edit of {family} has changed what runs after it")
    table = np.clip(values, -HUGE, HUGE).astype(np.float32)
    return Table(digest(search), search.right[0], [*functions], [*words], rows, table)


class _Numbers(dict[str, int]):
    """Numbers of words in the order in which they were met."""

    def __call__(self, word: str) -> int:
        return self.setdefault(word, len(self))


def write(family: str, table: Table) -> None:
    told = {n: x for n, x in table._asdict().items() if n not in ("right", "values")}
    packed = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    FOLDER.mkdir(exist_ok=True)
    with replacing(_file(family), who="fingerprints") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, told=np.frombuffer(packed, np.uint8), right=table.right, values=table.values
        )


def command(family: str) -> str:
    """How the model of a family is traced."""
    name, settings = TINY[family]
    given = " ".join(f'--set "{n}={x}"' for n, x in settings.items())
    return f"minswin trace --model {name} {given} --no-grad -o truth"


def main() -> None:
    parser = argparse.ArgumentParser(description="Tiny models whose answers are looked up.")
    parser.add_argument("--write", nargs="*", choices=[*TINY], help="make these tables, or all")
    families = parser.parse_args().write
    if families is None:
        print("\n\n".join(map(command, TINY)))
        return
    for family in families or TINY:
        table = made(family, lambda line: print(line, flush=True))
        write(family, table)
        print(f"{family}: {len(table.rows):,} edits, {_file(family).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

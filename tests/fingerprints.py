"""Make the tables of minswin/crosscheck/fingerprints.py: what every edit makes of tiny models.

python -m tests.fingerprints             makes all tables again (4 CPU minutes)
python -m tests.fingerprints V1 ViT      makes these
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from minswin.crosscheck import recipe
from minswin.crosscheck.edits.loading import Loaded
from minswin.crosscheck.edits.texts import Edit
from minswin.crosscheck.fingerprints import (
    FOLDER,
    LOADED,
    LOGITS,
    SAME,
    TINY,
    Table,
    digest,
    file_of,
    is_tabled,
)
from minswin.crosscheck.folder import builder
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.search import Clock, Search, Tell, rms
from minswin.crosscheck.site import sites_of
from minswin.crosscheck.trace import trace
from minswin.replacing import replacing

Array = np.ndarray
HUGE = 1e30  # float32 holds it
ALIKE = 2  # edits of other words that are kept of one answer


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
    with replacing(file_of(family), who="fingerprints") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, told=np.frombuffer(packed, np.uint8), right=table.right, values=table.values
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(TINY)}; default: all")
    for family in parser.parse_args().families or TINY:
        table = made(family, lambda line: print(line, flush=True))
        write(family, table)
        print(f"{family}: {len(table.rows):,} edits, {file_of(family).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

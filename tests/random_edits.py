"""Which random edits of our layers, models and definitions does no probe of `conform` notice?

    python -m tests.random_edits --count 260 --seed 5

The edits are those that `minswin compare` tries, drawn evenly from the functions that the probes
run. A survivor changes no number that a function of the protocol gives, or a probe is missing:
which of the two, a reader has to say. Every edit is tried in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
from collections.abc import Sequence
from typing import Any

from minswin import kernels
from minswin.bar import Bar
from minswin.crosscheck import conform, own
from minswin.crosscheck.adapter import Adapter, adapter_of
from minswin.crosscheck.edits.functions import functions_of
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spots import watch
from minswin.crosscheck.edits.texts import Text
from minswin.crosscheck.probes import ask, pack
from minswin.crosscheck.report import DIFFERS, REFUSED

OURS = re.compile(r"composites|layers\.(windows|attention|basic|embeddings|words)|reference"
                  r"|models\.(swin|vit|deit|tnt)")  # fmt: skip
SAME = re.compile(r"array_module\(|check_|who|rates|fraction|drop|type\(self\)|raise ")
HANGS = 60.0  # seconds


def drawn(adapter: Adapter, count: int, seed: int) -> list[Any]:
    """Edits of what the probes run, from each function in turn, in random order."""

    def run() -> None:
        for probe in pack():
            ask(adapter.functions[probe.function], probe, adapter.dtype)

    texts = [Text(f) for f in functions_of(run)]
    values, rng = watch(texts, run, nested=True), random.Random(seed)
    rows = []
    for text in (t for t in texts if OURS.match(t.name)):
        edits = [e for e in edits_of(text, values) if not SAME.search(e.diff)]
        rows.append(rng.sample(edits, len(edits)))
    deepest = max(map(len, rows))
    return [row[i] for i in range(deepest) for row in rows if i < len(row)][:count]


def killed_by(adapter: Adapter, edit: Any) -> str:
    """The first probe or law that an adapter of the edited text does not pass, or ""."""
    with edit.planted(), kernels.using("reference"):
        verdicts = ((q.name, conform.examine(adapter, q).status) for q in conform.questions())
        return next((name for name, status in verdicts if status in (DIFFERS, REFUSED)), "")


def _child(adapter: Adapter, edit: Any, answer: Any) -> None:
    try:
        answer.send(killed_by(adapter, edit))
    except SyntaxError:
        answer.send(None)  # it is no text of Python


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_edits", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="edits to try; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="which; default: 0")
    options = parser.parse_args(arguments)
    adapter, context = adapter_of(own, "minswin"), multiprocessing.get_context("fork")
    for probe in pack():  # the right answers, before anything is edited
        assert probe.expected
    edits, survivors, none = drawn(adapter, options.count, options.seed), [], 0
    with Bar(len(edits), unit="edits") as bar:
        for edit in edits:
            answer, ours = context.Pipe(duplex=False)
            child = context.Process(target=_child, args=(adapter, edit, ours))
            child.start()
            ours.close()
            if answer.poll(HANGS):  # one that hangs is noticed
                try:
                    probe_that_did = answer.recv()
                    none += probe_that_did is None
                    survivors += [edit] if probe_that_did == "" else []
                except EOFError:
                    pass  # a crash is noticed too
            child.kill()
            child.join()
            bar.update()
    for edit in survivors:
        print(f"{edit.text.name}: {edit.words}\n{edit.diff}\n")
    tried = len(edits) - none
    print(f"{tried - len(survivors)} of {tried} random edits are killed by a probe")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

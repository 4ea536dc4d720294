"""Mistakes that were written down before the search existed: found, named, and none named wrongly.

python -m tests.parity.test_unseen first TABLE.md        or later, third, … ninth
python -m tests.parity.test_unseen third TABLE.md alone  the same from image and logits alone
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from minswin.crosscheck import recipe
from minswin.crosscheck.compare import Comparison, compare
from minswin.crosscheck.diagnose import Diagnosis, diagnose
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.search import Clock
from minswin.crosscheck.trace import trace
from minswin.models import create_model

from .unseen_eighth import EIGHTH
from .unseen_fifth import FIFTH
from .unseen_later import LATER
from .unseen_mistakes import MISTAKES
from .unseen_ninth import NINTH
from .unseen_real import REAL
from .unseen_seventh import SEVENTH
from .unseen_sixth import SIXTH
from .unseen_third import THIRD
from .wrong_ports import IMAGES, LR, MODELS, STEPS, Mistake, seen, trained

pytestmark = pytest.mark.parity


class Outcome(NamedTuple):
    mistake: Mistake
    first: str
    verdict: str  # named, wrong, none
    diff: str
    seconds: float


@cache
def truth(
    family: str, optimizer: str = "", more_settings: Any = (), backward: bool = False
) -> Trace:
    name, settings = MODELS[family]
    more: dict[str, Any] = {"grad": bool(optimizer) or backward}
    more |= {"steps": STEPS, "optimizer": optimizer, "lr": LR} if optimizer else {}
    more |= dict(more_settings)

    def build(dtype: Any) -> Any:
        return create_model(name, **settings, rng=np.random.default_rng(0), dtype=dtype)

    images = recipe.images(IMAGES, 3, settings["img_size"])
    return trace(build, images, recipe.labels(IMAGES, settings["num_classes"]), **more)


def judged(mistake: Mistake, *, alone: bool = False) -> tuple[Comparison, Diagnosis | None]:
    """The comparison of a wrong port; alone: of its logits, and nothing else."""
    own = mistake.settings
    wrong = mistake.optimizer
    theirs = trained(mistake, wrong, **dict(own)) if wrong else seen(mistake)
    logits = theirs.get("output", theirs.get("classifier"))
    theirs = {"head": logits} if alone else theirs
    ours = truth(mistake.family, wrong, own, mistake.backward)
    found = compare(ours, theirs)
    return found, diagnose(ours, found)


def outcome(mistake: Mistake, *, alone: bool = False) -> Outcome:
    clock = Clock(0)  # counts other processes too, in which models are built
    comparison, diagnosis = judged(mistake, alone=alone)
    first = comparison.first.name if comparison.first else ""
    causes = diagnosis.causes if diagnosis else []
    parts = getattr(causes[0].edit, "edits", (causes[0].edit,)) if causes else ()
    told = "".join(f"{part.text.name} " for part in parts if hasattr(part, "text"))
    told += f"{causes[0].edit.diff} {causes[0].name}" if causes else ""
    right = bool(re.search(mistake.about, told, re.S))
    claimed = diagnosis is not None and diagnosis.named  # not only as what may be
    verdict = "named" if causes and right else "wrong" if claimed else "none"
    diff = causes[0].edit.diff.replace("\n", " → ") if causes else ""
    return Outcome(mistake, first, verdict, diff, -clock.left)


LOOPS = [("sgd", {}), ("adamw", {}), ("sgd", {"clip": 0.5}), ("sgd", {"warmup": 1}),
         ("adamw", {"smoothing": 0.1}), ("sgd", {"ema": 0.8})]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "settings"), LOOPS)
def test_a_right_loop_is_right(optimizer: str, settings: dict[str, Any]) -> None:
    found = compare(
        truth("V1", optimizer, tuple(settings.items())), trained(None, optimizer, **settings)
    )
    assert found.passed, found.first


EVERY = MISTAKES + LATER + THIRD + REAL + FIFTH + SIXTH + SEVENTH + EIGHTH + NINTH


@pytest.mark.parametrize("mistake", EVERY, ids=lambda m: f"{m.family}: {m.name}")
def test_a_mistake_is_found_and_not_called_something_else(mistake: Mistake) -> None:
    found = outcome(mistake)
    assert found.first
    assert found.verdict != "wrong", found
    assert found.verdict == "named" or not mistake.known, found


def main() -> None:
    rows = ["| family | mistake | met in | first wrong tensor | named | in CPU s | added later |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    lists = {"first": MISTAKES, "later": LATER, "third": THIRD, "real": REAL, "fifth": FIFTH,
             "sixth": SIXTH, "seventh": SEVENTH, "eighth": EIGHTH, "ninth": NINTH}  # fmt: skip
    for mistake in lists[sys.argv[1]]:
        o = outcome(mistake, alone="alone" in sys.argv)
        rows.append(
            f"| {mistake.family} | {mistake.name} | {mistake.met} | `{o.first}` | {o.verdict} | "
            f"{o.seconds:.0f} | {mistake.later} |"
        )
        print(rows[-1], o.diff, flush=True)
    Path(sys.argv[2]).write_text("\n".join(rows) + "\n", "utf-8")


if __name__ == "__main__":
    main()

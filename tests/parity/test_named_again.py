"""An eighth of what the lists of mistakes had named: so that a name that gets lost is noticed.

All of them take a quarter of an hour, and are a measurement: `test_unseen.py`.
"""

from __future__ import annotations

import pytest

from .test_unseen import EVERY, outcome
from .wrong_ports import Mistake

pytestmark = pytest.mark.parity

SOME = [mistake for mistake in EVERY if mistake.known][::8]


@pytest.mark.parametrize("mistake", SOME, ids=lambda m: f"{m.family}: {m.name}")
def test_a_mistake_that_was_named_is_named(mistake: Mistake) -> None:
    found = outcome(mistake)
    assert found.verdict == "named", found

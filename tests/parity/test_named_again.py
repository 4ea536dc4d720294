"""An eighth of what the lists of mistakes had named, and right ports: a loss is noticed.

All of them take a quarter of an hour, and are a measurement: `test_unseen.py`.
"""

from __future__ import annotations

import pytest

from minswin.crosscheck.compare import compare

from .test_unseen import EVERY, outcome, truth
from .wrong_ports import MODELS, Mistake, seen

pytestmark = pytest.mark.parity

SOME = [mistake for mistake in EVERY if mistake.known][::8]


@pytest.mark.parametrize("mistake", SOME, ids=lambda m: f"{m.family}: {m.name}")
def test_a_mistake_that_was_named_is_named(mistake: Mistake) -> None:
    found = outcome(mistake)
    assert found.verdict == "named", found


# timm rolls, then pads: huggingface/pytorch-image-models#2438
@pytest.mark.parametrize("family", [f for f in MODELS if "padded" not in f])
def test_a_right_port_is_right(family: str) -> None:
    found = compare(truth(family), seen(None, family))
    assert found.passed, found.first

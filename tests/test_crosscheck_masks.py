"""A mask may be −100 or anything lower; and whatever it is, a wrong one is found and named."""

from __future__ import annotations

import numpy as np
import pytest
import score

from minswin.crosscheck.compare import GOOD, compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.classics import classics, planted

Arrays = dict[str, np.ndarray]
BLOCK = "layers.0.blocks.1.attn."
DEPTHS = [-100.0, -200.0, -1000.0, -1e4, -1e9, -np.inf]
KINDS = ("mask", "bias_and_mask", "logits")


def right() -> Arrays:
    return {n: np.array(x) for n, x in score.truth("square").arrays["float32"].items()}


def masked_with(depth: float) -> Arrays:
    """A right port whose mask is deeper."""
    theirs, steps = right(), score.truth("square").steps
    for name, x in theirs.items():
        if name in steps and steps[name].kind in KINDS:
            x[steps[name].value < -50] += np.float32(depth + 100)
    return theirs


# ── right ports ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_mask_of_minus_100_or_less_is_right(depth: float) -> None:
    theirs = masked_with(depth)
    found = compare(score.truth("square"), theirs)
    assert found.passed, found.first
    assert {f.verdict for f in found.findings} <= {*GOOD, "missing"}
    lower = [f.name for f in found.findings if "lower still" in f.note]
    assert len(lower) == (0 if depth == -100 else 6)  # three kinds in two shifted blocks


@pytest.mark.parametrize("depth", DEPTHS)
def test_logits_alone_show_the_mask_and_are_right(depth: float) -> None:
    theirs = {n: x for n, x in masked_with(depth).items() if n.endswith((".logits", "image"))}
    assert compare(score.truth("square"), theirs).passed


@pytest.mark.parametrize("depth", [-99.0, -60.0, -10.0])
def test_a_weaker_mask_is_wrong(depth: float) -> None:
    first = compare(score.truth("square"), masked_with(depth)).first
    assert first is not None and first.name == BLOCK + "mask"
    logits = {n: x for n, x in masked_with(depth).items() if n.endswith((".logits", "image"))}
    first = compare(score.truth("square"), logits).first
    assert first is not None and first.name == BLOCK + "logits"


def test_where_nothing_is_masked_lower_logits_are_wrong() -> None:
    truth = score.truth("square")
    for name in (BLOCK + "logits", "layers.0.blocks.0.attn.logits"):
        theirs = right()
        pair = tuple(np.argwhere(truth.steps[name].value > -50)[7])
        theirs[name][pair] -= 1000
        first = compare(truth, theirs).first
        assert first is not None and (first.name, first.worst) == (name, pair)


def test_behind_a_deep_mask_what_follows_is_judged_by_it() -> None:
    theirs = masked_with(-np.inf)
    theirs[BLOCK + "scores"] *= np.float32(1.5)
    x = theirs[BLOCK + "scores"] + np.float32(0)
    theirs[BLOCK + "logits"] = x + theirs[BLOCK + "bias_and_mask"]
    found = compare(score.truth("square"), theirs)
    verdicts = {f.name: f.verdict for f in found.findings}
    assert found.first is not None and found.first.name == BLOCK + "scores"
    assert verdicts[BLOCK + "logits"] == "follows"


# ── wrong masks ──────────────────────────────────────────────────────────────────────────────────

MISTAKES = ("the mask inverted", "the mask of rows alone")


def named(theirs: Arrays) -> list[str]:
    truth = score.truth("square")
    found = diagnose(truth, compare(truth, theirs), seconds=3)
    return [] if found is None else [cause.name for cause in found.causes]


@pytest.mark.parametrize("depth", [-100.0, -1e9, -np.inf])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_mask_is_named_however_deep_it_is(mistake: str, depth: float) -> None:
    one, own = next(c for c in classics() if c.name == mistake), right()
    with planted(one):
        wrong = score.run("square", ("float32",)).arrays["float32"][BLOCK + "mask"]
    mask = np.where(wrong < -50, depth, 0).astype("f4")
    assert one.words in named({"image": own["image"], BLOCK + "mask": mask})
    scores = own[BLOCK + "scores"] + own[BLOCK + "bias"]
    logits = scores + mask.reshape(1, len(mask), 1, *mask.shape[-2:])
    given = {n: own[n] for n in ("image", BLOCK + "q", BLOCK + "k")}
    assert one.words in named({**given, BLOCK + "logits": logits})


def test_a_mistake_in_the_scores_is_named_under_a_deep_mask() -> None:
    own = masked_with(-1e9)
    q, k = own[BLOCK + "q"], own[BLOCK + "k"]
    scale = np.float32(np.sqrt(q.shape[-1]) - 1)
    logits = own[BLOCK + "logits"] + scale * right()[BLOCK + "scores"]
    theirs = {"image": own["image"], BLOCK + "q": q, BLOCK + "k": k, BLOCK + "logits": logits}
    assert named(theirs) == ["q kᵀ is not scaled"]


def test_of_an_infinite_mask_that_nobody_knows_something_is_said() -> None:
    own = right()
    mask = np.zeros_like(own[BLOCK + "mask"])
    mask[7, 0, 2, 3] = -np.inf
    truth = score.truth("square")
    found = diagnose(
        truth, compare(truth, {"image": own["image"], BLOCK + "mask": mask}), seconds=0.5
    )
    assert found is not None and found.tried and not found.named
    assert any("of its elements are wrong" in line for line in found.observations)

"""A difference that is a choice is said in a map, and what comes behind is judged from it."""

from __future__ import annotations

from functools import cache

import pytest
import score
from test_crosscheck_unpaired import OUTPUTS, own_names, right, told

from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.classics import classics, planted
from minswin.crosscheck.names import resolve, weight_names
from minswin.crosscheck.results import data_of
from minswin.crosscheck.trace import Trace

GELU = {"*.mlp.gelu": "!"}


@cache
def port(*names: str) -> Trace:
    """Tensors and gradients of a port that has these mistakes."""
    if not names:
        return score.run("square", ("float32",))
    with planted(next(f for f in classics() if f.name == names[0])):
        return port.__wrapped__(*names[1:])


@pytest.mark.parametrize(
    ("mistake", "at", "before"),
    [("GELU by tanh", "mlp.gelu", ()), ("divided by d", "attn.scores", ("attn.q", "attn.k"))],
)
def test_a_choice_that_is_taken_as_it_is_leaves_a_port_right_with_its_gradients(
    mistake: str, at: str, before: tuple[str, ...]
) -> None:
    theirs = dict(port(mistake).arrays["float32"])
    found, _ = told(theirs)
    assert found.first is not None and found.first.name.endswith(at)
    found, text = told(theirs, {f"*.{at}": "!"})
    assert found.passed and "No divergence" in text and "taken as they are given" in text
    block = "layers.0.blocks.0."
    taken = {f.name.partition(block)[0] + f.name.partition(block)[2] for f in found.taken}
    assert {at, *("cotangent/" + n for n in before)} <= taken  # what it hands back, too
    assert len(found.taken) == 4 * (1 + len(before))  # of four blocks, and no weight


def test_the_next_mistake_shows_and_is_named_behind_a_choice() -> None:
    theirs = dict(port("GELU by tanh", "tokens added up").arrays["float32"])
    truth = score.truth("square")
    found = compare(truth, theirs, GELU)
    assert found.first is not None and found.first.name == "pooled"
    diagnosis = diagnose(truth, found)
    assert diagnosis is not None and diagnosis.named
    rows = {row["name"]: row for row in data_of(truth, found, diagnosis)["tensors"]}
    assert rows["layers.0.blocks.0.mlp.gelu"]["verdict"] == "taken"


def test_a_choice_may_be_told_with_its_name() -> None:
    theirs = own_names(right(), ["image", *OUTPUTS])
    scaled, bias = right()["norm"] * 2, right()["head.bias"]
    theirs |= {"ln": scaled, "fc": 2 * (right()["head"] - bias) + bias}
    theirs |= {n: right()[n] for n in ("head.weight", "head.bias")}
    assert told(theirs, {"norm": "ln", "head": "fc"})[0].first is not None
    assert told(theirs, {"norm": "ln!", "head": "fc"})[0].passed
    theirs["fc"] = theirs["fc"] + 1
    found, _ = told(theirs, {"norm": "ln !", "head": "fc"})
    assert found.first is not None and found.first.name == "head"
    assert weight_names([("head", "fc !"), ("norm", "!")], ["head.weight", "norm.weight"]) == {
        "head.weight": "fc.weight"
    }


def test_a_choice_of_what_is_not_there_is_said() -> None:
    found, _ = told({"head": right()["head"]}, GELU)
    assert found.passed and found.absent == ["*.mlp.gelu = !"]
    with pytest.raises(ValueError, match=r"names what is not there: layers\.0\.gelo = !"):
        resolve([("layers.0.gelo", "!")], ["layers.0.gelu"], [])

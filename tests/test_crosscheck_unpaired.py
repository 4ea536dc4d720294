"""No port is called right while tensors of it that may be wrong were paired with none of ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score

from minswin.cli import main
from minswin.crosscheck import folder
from minswin.crosscheck.compare import Comparison, compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.classics import classics, planted
from minswin.crosscheck.results import data_of, report

Arrays = dict[str, np.ndarray]
OUTPUTS = ["layers.0.blocks.0.output", "layers.0.blocks.1.output", "layers.1.blocks.1.output"]


def right() -> Arrays:
    return {n: np.array(x) for n, x in score.truth("square").arrays["float32"].items()}


@cache
def wrong() -> Arrays:
    """A port that does not scale q kᵀ."""
    with planted(next(f for f in classics() if f.name == "no scale")):
        return dict(score.run("square", ("float32",)).arrays["float32"])


def own_names(arrays: Arrays, names: list[str]) -> Arrays:
    """Tensors under names that ours do not have."""
    return {f"port/{n}": arrays[n] for n in names}


def told(theirs: Arrays, names: dict[str, str] | None = None) -> tuple[Comparison, str]:
    truth = score.truth("square")
    found = compare(truth, theirs, names)
    return found, report(data_of(truth, found, diagnose(truth, found, seconds=0.1)))


# ── values ───────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_port_whose_wrong_tensors_are_not_paired_is_not_called_right() -> None:
    found, text = told(own_names(wrong(), ["image", "patch_embed.norm", *OUTPUTS]))
    assert found.first is None and not found.passed
    assert "Undecided: nothing is wrong among the 2 that could be paired" in text
    assert "3 of theirs were not" in text and "--names" in text
    assert "No divergence" not in text


def test_the_status_tells_what_is_undecided_and_names_decide_it(
    tmp_path: Path, capsys: Any
) -> None:
    folder.write(score.truth("square"), tmp_path / "truth")
    (tmp_path / "map").write_text("norm = ln\n")
    command = ["compare", str(tmp_path / "truth"), str(tmp_path / "x.npz")]
    named = [*command, "--names", str(tmp_path / "map")]
    theirs = own_names(right(), ["image", *OUTPUTS])
    np.savez(tmp_path / "x.npz", **theirs, ln=right()["norm"] * np.float32(1.1))
    assert main(command) == 1
    assert "Undecided" in capsys.readouterr().out
    assert main(named) == 1
    assert "[norm]" in capsys.readouterr().out
    np.savez(tmp_path / "x.npz", **theirs, ln=right()["norm"], fc=right()["head"])
    assert main(command) == main(named) == 0
    assert "No divergence" in capsys.readouterr().out


def test_logits_that_are_given_under_two_names_are_still_the_only_ones_of_their_shape() -> None:
    truth, kept = score.truth("square"), own_names(wrong(), ["image", *OUTPUTS])
    logits = {"answer": wrong()["head"], "fc": wrong()["head"].copy()}
    found = compare(truth, {**kept, **logits})
    assert found.first is not None and found.first.name == "head"
    found = compare(truth, {**kept, **logits, "fc": logits["fc"] + 1})
    assert found.first is None and not found.passed  # which of the two is it?


@pytest.mark.parametrize("end", ["head", "loss"])
def test_behind_right_logits_or_a_right_loss_tensors_of_their_own_do_no_harm(end: str) -> None:
    theirs = {end: right()[end], "image": right()["image"], "mine": np.ones((3, 8, 9), "f4")}
    found, text = told(theirs)
    assert found.passed and found.unused == ["mine"] and "No divergence" in text


def test_a_tensor_that_stands_there_twice_is_not_unknown() -> None:
    kept = own_names(right(), ["image", *OUTPUTS])
    found, _ = told({**kept, "stage": right()[OUTPUTS[-1]].reshape(3, -1, 24)})
    assert found.passed and not found.unused
    assert not told({**kept, "stage": right()[OUTPUTS[-1]] * 2})[0].passed


def test_a_counter_is_no_tensor_that_could_be_wrong() -> None:
    found, _ = told({"image": right()["image"], "steps": np.array(7), "none": np.zeros((0, 3))})
    assert found.passed
    found, _ = told({"image": right()["image"], "my_loss": np.array(7.0)})
    assert found.unknown == ["my_loss"]


# ── gradients ────────────────────────────────────────────────────────────────────────────────────


def test_right_logits_do_not_vouch_for_gradients() -> None:
    gradients = [f"cotangent/{n}" for n in ("head.weight", "norm.weight", "patch_embed.proj.bias")]
    theirs = own_names(right(), ["head", *gradients])
    assert told(theirs)[0].passed
    theirs["port/cotangent/norm.weight"] = theirs["port/cotangent/norm.weight"] * 2
    found, text = told(theirs)
    assert found.first is None and found.unknown == ["port/cotangent/norm.weight"]
    assert "Undecided" in text
    assert not told(theirs, {"cotangent/norm.weight": "port/cotangent/norm.weight"})[0].passed


def test_of_a_wrong_gradient_only_what_was_paired_is_called_right() -> None:
    theirs = right()
    theirs["cotangent/norm.weight"] *= np.float32(2)
    assert "all values that were paired are right" in told(theirs)[1]

"""What is skipped in a search changes nothing there; what could be the cause is not skipped."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import score

from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spots import watch
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.idle import edits_that_run, texts_that_matter, weights_that_matter
from minswin.crosscheck.replay import _changed
from minswin.crosscheck.search import Clock, Search, rms
from minswin.crosscheck.site import sites_of

BLOCK = "layers.0.blocks.1."
TABLES = {
    "composites.relative_position_bias", "layers.windows.pad_map", "reference.shape.take",
    "reference.windows._cut", "reference.windows.attention_mask",
    "reference.windows.relative_position_index", "reference.windows.shift_regions",
    "reference.windows.window_partition",
}  # fmt: skip


@cache
def search(target: str) -> Search:
    """The search at the call that makes a tensor, of a port that gave all tensors."""
    truth = score.truth("square")
    have = {n: np.array(x) for n, x in truth.arrays["float32"].items() if "/" not in n}
    return Search(sites_of(Ground(truth, have, images=1), BLOCK + target)[0], 2.0**-24, Clock(60))


def test_tables_and_windows_are_idle_where_queries_and_keys_are_given() -> None:
    at = search("attn.scores")
    kept = {text.name for text in texts_that_matter(at, at.site.texts)}
    assert {text.name for text in at.site.texts} - kept == TABLES
    at = search("attn.mask")
    made = {"reference.windows.attention_mask", "reference.windows.shift_regions"}
    assert made <= {text.name for text in texts_that_matter(at, at.site.texts)}


@pytest.mark.parametrize("target", ["attn.scores", "attn.heads"])
def test_no_edit_of_an_idle_text_gives_another_tensor(target: str) -> None:
    at = search(target)
    kept = texts_that_matter(at, at.site.texts)
    idle = [text for text in at.site.texts if text not in kept]
    seen = watch(idle, lambda: at.site.run(whole=True))
    every = [edit for text in idle for edit in edits_of(text, seen)]
    assert len(every) > 1000
    for edit in every[::40]:
        value = at.value(edit)
        assert value is None or rms(value - at.right) <= 1e-11 * rms(at.right), edit.diff


@pytest.mark.parametrize("target", ["attn.scores", "norm1"])
def test_no_edit_of_what_comes_later_gives_another_tensor(target: str) -> None:
    """Behind the scores, and in the vjp of a norm, which no forward pass calls."""
    at = search(target)
    kept = {(e.text, e.source) for e in edits_that_run(at.site, at.site.texts, math.inf)}
    seen = watch(at.site.texts, lambda: at.site.run(whole=True))
    every = [edit for text in at.site.texts for edit in edits_of(text, seen)]
    later = [e for e in every if (e.text, e.source) not in kept]
    assert len(kept) > len(later) > 20
    for edit in later[:: 1 + len(later) // 25]:
        value = at.value(edit)
        assert value is None or rms(value - at.right) <= 1e-11 * rms(at.right), edit.diff


def test_weights_that_a_tensor_does_not_depend_on_are_not_changed() -> None:
    at = search("mlp.fc2")
    fc1, fc2 = ({fc, f"{fc}.weight", f"{fc}.bias"} for fc in ("fc1", "fc2"))
    assert {e.name for e in at.loadings()} == fc1 | fc2
    assert {e.name for e in weights_that_matter(at)} == fc2


def test_what_is_kept_of_a_model_changes_nothing_that_an_edit_builds() -> None:
    at, other = search("norm1"), 0
    edits = at.of_building(set())
    assert len(edits) > 500
    for edit in (*edits[::20], *(e for e in edits if "LayerNorm" in e.text.name)):
        value, exact = at.value(edit), at.value(edit, whole=True)
        if exact is None:  # what cannot be built elsewhere is no answer
            assert value is None or value is at.right, edit.diff
        else:
            assert value is not None, edit.diff
            assert np.array_equal(value, exact), edit.diff
            other += value is not at.right
    assert other  # another eps


def test_the_first_edit_of_building_is_compared_with_what_the_right_texts_build() -> None:
    edit = next(e for e in search("norm1").of_building(set()) if '"eps", 1)' in e.diff)
    at = search.__wrapped__("norm1")
    value = at.value(edit)
    assert value is not None and rms(value - at.right) > 0.1 * rms(at.right), edit.diff


def test_an_edit_of_a_layer_that_stands_elsewhere_is_not_tried() -> None:
    texts = {edit.text.name for edit in search("attn.scores").of_building(set())}
    assert "layers.windows.WindowAttention.__init__" in texts
    assert not any("PatchMerging" in name or "PatchEmbed." in name for name in texts)


def test_all_that_may_be_the_cause_is_searched_where_nothing_inside_is_given() -> None:
    truth = score.truth("square")
    have = {n: truth.arrays["float32"][n] for n in ("image", "head")}
    at = Search(sites_of(Ground(truth, have, images=1), "head")[0], 2.0**-24, Clock(60))
    kept = {text.name for text in texts_that_matter(at, at.site.texts)}
    assert {text.name for text in at.site.texts} == kept
    assert len(weights_that_matter(at)) > 0.9 * len(at.loadings())


def test_parts_with_names_are_changed_as_others_are() -> None:
    class Pair(NamedTuple):
        a: np.ndarray
        b: int

    x, y = np.zeros(2), np.ones(2)
    given = Pair(x, 3)
    assert _changed(given, {id(x): y}) == Pair(y, 3) and type(_changed(given, {})) is Pair
    assert _changed([x], {id(x): y})[0] is y

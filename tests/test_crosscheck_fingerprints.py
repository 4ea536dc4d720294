"""Tables of fingerprints: up to date, and a mistake is named by them from the logits alone."""

from __future__ import annotations

import random
import shlex
from functools import cache
from typing import Any

import fingerprints
import numpy as np
import pytest

from minswin.autograd import Tensor, no_grad
from minswin.cli import main
from minswin.crosscheck import fingerprints as prints
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.classics import Classic, classics, planted
from minswin.crosscheck.edits.loading import Loaded
from minswin.crosscheck.edits.statements import mirrored
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.search import Search, rms
from minswin.crosscheck.trace import trace
from minswin.layers import PatchEmbed
from minswin.models.tnt import Block

FAMILIES = list(prints.TINY)
SOME = 40


@cache
def search_of(family: str) -> Search:
    return fingerprints.search_of(family)


def table_of(family: str) -> prints.Table:
    table = prints.read(family)
    assert table is not None, f"there is no table of {family}"
    return table


def logits_of(search: Search) -> np.ndarray:
    """The logits of a right port in float32."""
    truth = search.site.ground.truth
    assert truth.build is not None
    model = truth.build(np.dtype("float32")).eval()
    model.load_state_dict(search.site.ground.models["float32"].state_dict())
    with no_grad():
        return np.asarray(model(Tensor(truth.steps["image"].value.astype("f4"))).data)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_port_in_float64_may_hand_out_float32(family: str) -> None:
    """Each tensor is rounded when it is handed out, and nothing is computed from it."""
    truth = search_of(family).site.ground.truth
    given = {n: x for n, x in truth.arrays["float64"].items() if truth.steps[n].op != "parameter"}
    theirs = {n: x.astype("f4") if x.dtype.kind == "f" else x for n, x in given.items()}
    assert compare(truth, theirs).passed


# ── the tables ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_is_of_the_present_texts(family: str) -> None:
    """If not: python -m tests.fingerprints"""
    search, table = search_of(family), table_of(family)
    assert prints.digest(search) == table.digest
    rows = random.Random(0).sample(range(len(table.rows)), SOME)
    for row, edit in zip(rows, table.edits(search, rows), strict=True):
        value = fingerprints.changed(search, edit)
        assert value is not None
        expected = np.clip(value[: prints.LOGITS], -fingerprints.HUGE, fingerprints.HUGE)
        np.testing.assert_allclose(table.values[row], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_has_what_the_present_edits_give(family: str) -> None:
    """If not: python -m tests.fingerprints"""
    search, table = search_of(family), table_of(family)
    every = [edit for edit, _ in fingerprints.hypotheses(search)]
    for edit in random.Random(1).sample(every, SOME):
        value = fingerprints.changed(search, edit)
        if value is not None:
            expected = np.clip(value[: prints.LOGITS], -fingerprints.HUGE, fingerprints.HUGE)
            off = np.abs(table.values - expected).max(axis=1)
            assert off.min() <= 1e-6 * max(1, rms(expected)), edit.words


@pytest.mark.parametrize("family", FAMILIES)
def test_every_edit_of_a_table_can_be_told(family: str) -> None:
    search, table = search_of(family), table_of(family)
    edits = table.edits(search)
    assert len(edits) == len(table.rows) == len(table.values)
    for edit in edits:
        assert edit.diff and edit.words and edit.place


def test_a_stale_table_is_not_used(monkeypatch: Any) -> None:
    search = search_of("ViT")
    assert prints.table_of(search) is not None
    source = Text.__init__

    def changed(self: Text, function: Any) -> None:
        source(self, function)
        self.source += "    # another line" * (self.name == "composites.mlp")

    monkeypatch.setattr(Text, "__init__", changed)
    assert prints.table_of(search) is None


def test_another_model_has_no_table(monkeypatch: Any) -> None:
    name, settings = prints.TINY["ViT"]
    monkeypatch.setitem(prints.TINY, "other", (name, {**settings, "depth": 1}))
    assert prints.table_of(fingerprints.search_of("other")) is None


# ── what they name ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_answer_is_right_and_nothing_is_named(family: str) -> None:
    search = fingerprints.search_of(family, images=3)
    search.site.theirs = logits_of(search).astype("f8")
    assert compare(search.site.ground.truth, {"head": logits_of(search)}).passed
    assert prints.looked_up(table_of(family), search) == []


def test_a_port_that_gives_its_logits_alone_is_told_its_mistake(tmp_path: Any, capsys: Any) -> None:
    """From the command that is printed to the line of ours."""
    truth, theirs = str(tmp_path / "truth"), str(tmp_path / "theirs.npz")
    command = shlex.split(prints.command("ViT"))
    main([*command[1:-1], truth])
    search = fingerprints.search_of("ViT", images=2)
    one = next(c for c in classics() if in_the_table(c) and c.function == "composites.spelled_out")
    with planted(one):
        np.savez(theirs, head=search.site.value("float32").astype("f4"))
    capsys.readouterr()
    assert main(["compare", truth, theirs]) == 1
    assert one.words in capsys.readouterr().out


def test_of_equal_edits_that_of_a_text_is_told_before_that_of_weights() -> None:
    """Patches counted by columns are positions counted by columns: attention knows no order."""
    search = search_of("ViT")
    text = Text(PatchEmbed.__call__)
    at = text.source.index("(0, 2, 3, 1)")
    with Edit(text, [(at, at + 12, "(0, 3, 2, 1)")], "", 1).planted():
        theirs = search.site.value("float32")
    assert theirs is not None
    search = fingerprints.search_of("ViT")
    search.site.theirs = theirs
    (answer,) = prints.looked_up(table_of("ViT"), search)
    assert isinstance(answer.edit, Edit) and any(isinstance(e, Loaded) for e in answer.edits)


@pytest.mark.parametrize("change", [1, 1.5])
def test_where_a_nearer_tensor_is_wrong_too_the_answer_is_looked_up(
    change: float, monkeypatch: Any
) -> None:
    """Words of TNT tell the token before; what is found must give both tensors."""
    search, text = search_of("TNT"), Text(Block.__call__)
    ((changes, words, _),) = mirrored(text)
    truth = search.site.ground.truth
    with Edit(text, changes, words, 1).planted():
        steps = trace(truth.build, *inputs_of(truth), grad=False, dtypes=("float32",)).steps
    monkeypatch.setattr(Search, "classics", lambda _: [])  # nothing is searched
    monkeypatch.setattr("minswin.crosscheck.diagnose._Value._stages", lambda *_: iter(()))
    theirs = {"norm": steps["norm"].value * np.float32(change), "head": steps["head"].value}
    comparison = compare(truth, theirs)
    assert comparison.first is not None and comparison.first.name == "norm"
    found = diagnose(truth, comparison)
    assert found is not None and found.tried <= prints.MOST
    assert [cause.name for cause in found.causes] == ([words] if change == 1 else [])


def inputs_of(truth: Trace) -> tuple[np.ndarray, np.ndarray]:
    return truth.steps["image"].value, truth.steps["labels"].value


def in_the_table(one: Classic) -> str:
    """The first family in whose model the function of a classic runs that Swin shows, or ""."""
    if not (one.words and one.first) or one.first.startswith(("cotangent", "after", "error")):
        return ""
    tables = {family: prints.read(family) for family in FAMILIES}
    return next((f for f, t in tables.items() if t and one.function in t.functions), "")


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.long] * (number % 2))
        for number, one in enumerate(filter(in_the_table, classics()))
    ],
)
def test_a_classic_is_named_from_the_answer_alone(one: Classic, monkeypatch: Any) -> None:
    search = search_of(in_the_table(one))
    with planted(one):
        theirs = search.site.value("float32")
    if theirs is None or rms(theirs - search.right) < 1e-4 * rms(search.right):
        pytest.skip("it cannot run here, or changes nothing")
    for stage in ("classics", "singles", "of_building"):
        monkeypatch.setattr(Search, stage, None)  # nothing is searched
    truth = search.site.ground.truth
    found = diagnose(truth, compare(truth, {"head": theirs.astype("f4")}))
    assert found is not None and found.named
    assert found.tried <= prints.MOST
    told = (found.causes[0].name, *found.causes[0].others)
    assert any(words.startswith(one.words) for words in told), told

"""A mistake is named only if it gives their numbers, and what else is true of them is said."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import score
from fingerprints import search_of

from minswin import kernels
from minswin.composites import mlp, spelled_out
from minswin.crosscheck import recipe
from minswin.crosscheck.compare import Comparison, Finding, compare
from minswin.crosscheck.diagnose import Cause, Diagnosis, diagnose
from minswin.crosscheck.edits.classics import classics, planted
from minswin.crosscheck.edits.functions import known_functions
from minswin.crosscheck.edits.helpers import e_softmax
from minswin.crosscheck.edits.operators import edits_of
from minswin.crosscheck.edits.spots import watch
from minswin.crosscheck.edits.statements import terms
from minswin.crosscheck.edits.texts import PACKAGE, Edit, Text
from minswin.crosscheck.folder import builder
from minswin.crosscheck.further import ALL, KNOWN, ONE, further_on
from minswin.crosscheck.ground import Ground
from minswin.crosscheck.layouts import NOTE, windows_of
from minswin.crosscheck.number import closed_form, free, on_top
from minswin.crosscheck.observations import REORDERED, observe
from minswin.crosscheck.recording import Step
from minswin.crosscheck.results import _diagnosis, data_of, report, why
from minswin.crosscheck.search import NEAREST, SCALED, Clock, Search
from minswin.crosscheck.site import sites_of
from minswin.crosscheck.trace import trace
from minswin.models.swin import SwinBlock
from minswin.models.vit import Block
from minswin.reference.windows import window_partition

BLOCK = "layers.0.blocks.1.attn."
TWICE = "ops.gelu(ops.gelu(ops.linear(x, w1, b1)))"


def diagnosed(**changes: Any) -> Diagnosis:
    """The diagnosis of a right trace in which tensors are changed: name=function."""
    truth = score.truth("square")
    theirs = {n: np.array(x) for n, x in truth.arrays["float32"].items()}
    for name, change in changes.items():
        theirs[name] = change(theirs[name]).astype("f4")
    found = diagnose(truth, compare(truth, theirs), seconds=1)
    assert found is not None
    return found


def wrong_port(function: Any, text: str, becomes: str, names: tuple[str, ...] = ()) -> Any:
    """(truth, comparison) of a port with one edit of our text, of which these tensors are given."""
    truth, right = score.truth("square"), Text(function)
    at = right.source.index(text)
    with Edit(right, [(at, at + len(text), becomes)], "planted", 0).planted():
        theirs = score.run("square", ("float32",)).arrays["float32"]
    theirs = {n: x for n, x in theirs.items() if not names or n in names}
    return truth, compare(truth, theirs)


# ── naming ───────────────────────────────────────────────────────────────────────────────────────


def test_a_right_trace_has_no_diagnosis() -> None:
    truth = score.truth("square")
    assert diagnose(truth, compare(truth, truth.arrays["float32"])) is None


def test_a_mistake_is_named_with_its_line_and_what_to_do() -> None:
    truth, comparison = wrong_port(spelled_out.function, "q.shape[-1] ** -0.5", "1.0")
    found = diagnose(truth, comparison, seconds=3)
    assert [cause.name for cause in found.causes] == ["q kᵀ is not scaled"]
    text = report(data_of(truth, comparison, found))
    assert "✗ q kᵀ is not scaled" in text and "remedy    scores = (q / √d) kᵀ" in text
    assert "minswin/composites.py:" in text
    assert "      - logits = (q * q.shape[-1] ** -0.5) @ k.transpose(*swapped)" in text


def test_almost_a_mistake_is_not_named() -> None:
    """One element of a thousand is enough to acquit it."""
    truth = score.truth("square")
    d = truth.steps[BLOCK + "q"].value.shape[-1]

    def nearly(s: np.ndarray) -> np.ndarray:
        s = s * np.sqrt(d)
        s[0, 0, 0, 0, 0] += 1
        return s

    found = diagnosed(**{BLOCK + "scores": nearly})
    assert not found.causes and found.tried > 100


@pytest.mark.parametrize(
    ("function", "text", "becomes"),
    [
        (mlp.function, "ops.gelu(ops.linear(x, w1, b1))", TWICE),
        (spelled_out.function, "ops.softmax(logits)", "e_softmax(logits, 3)"),
    ],
)  # fmt: skip
def test_what_no_classic_describes_is_named_by_an_edit(
    function: Any, text: str, becomes: str
) -> None:
    truth, comparison = wrong_port(function, text, becomes)
    found = diagnose(truth, comparison, seconds=20)
    assert found is not None and found.named
    assert found.causes[0].edit.text.name.startswith(
        ("composites", "layers", "reference.normalize.softmax")
    )


@pytest.mark.parametrize(
    ("text", "becomes", "words"),
    [
        (
            "self.mlp(self.norm2(x))",
            "self.norm2(x) + self.mlp(self.norm2(x))",
            "a residual once more",
        ),
        (
            "x = x + self.drop_path(self.attn",
            "x = x + x + self.drop_path(self.attn",
            "a residual twice",
        ),
        ("self.mlp(self.norm2(x))", "self.attn(self.norm2(x))", "another layer"),
    ],
)
def test_a_step_more_in_a_block_is_named_where_layers_give_their_outputs(
    text: str, becomes: str, words: str
) -> None:
    """The step that is put in has the name of another: of the block's output, which is theirs."""
    truth, right = score.truth("square"), Text(SwinBlock.__call__)
    at = right.source.index(text)
    with Edit(right, [(at, at + len(text), becomes)], "planted", 0).planted():
        calls, arrays = Ground(truth, {}).calls, score.run("square", ("float32",)).arrays["float32"]
    outputs = {c.path: arrays[c.output] for c in calls[::-1] if c.path and c.output}
    found = diagnose(truth, compare(truth, outputs))
    assert found is not None and found.named
    assert words in found.causes[0].name.replace("counted ", "")


@pytest.mark.parametrize(("how", "words"), [("", "softmax"), ("log", "log_softmax")])
def test_a_model_that_gives_probabilities_for_logits_is_told_so(how: str, words: str) -> None:
    truth = score.truth("square")
    right = truth.arrays["float32"]
    given = {**right, "output": e_softmax(right["head"], -1, how)}
    found = diagnose(truth, compare(truth, given), seconds=20)
    assert found is not None and found.named
    assert f"+ return {words}(self.head(x)" in found.causes[0].diff


def told(name: str, explains: int, of: int, remedy: str = "") -> tuple[bool, str]:
    """Whether a cause is named, and what is printed of it."""
    cause = Cause(name, step((), ()), remedy, explains=explains, of=of)
    found = Diagnosis(Finding("x", step((), ()), "wrong"), [cause], [], 9)
    return found.named, "\n".join(why(_diagnosis(found)))


def test_an_edit_that_gives_few_of_the_other_tensors_is_told_as_what_may_be() -> None:
    named, text = told("an operation comes later", 3, 6)
    assert not named and "✗" not in text and "  ? an operation comes later" in text
    assert "not sure: this edit gives the first wrong tensor, and not all of the others" in text
    assert told("an operation comes later", 6, 6)[0] and told("one number", 0, 0)[0]
    assert told("met before", 2, 4, "do this")[0] and not told("met before", 1, 4, "do this")[0]


def test_what_two_statements_add_may_stand_in_the_other_order() -> None:
    text = Text(SwinBlock.__call__)
    ((changes, _, _),) = terms(text)
    lines = Edit(text, changes, "", 1).source.splitlines()
    assert lines[-2:] == [
        "    x = x + self.drop_path(self.mlp(self.norm2(x)))",
        "    return x + self.drop_path(self.attn(self.norm1(x)))",
    ]


def test_an_edit_of_a_block_gives_norms_elsewhere_whose_inputs_are_given() -> None:
    """The MLP before attention: a norm is made in the call of a norm, where the edit is not."""
    truth, text = search_of("V1").site.ground.truth, Text(SwinBlock.__call__)
    ((changes, words, _),) = terms(text)
    x, labels = (truth.steps[name].value for name in ("image", "labels"))
    with Edit(text, changes, words, 1).planted():
        steps = trace(truth.build, x, labels, grad=False, dtypes=("float32",)).steps
    ends = ("norm1", "norm2", "qkv", "proj", "fc1", "fc2", "norm", "reduction")
    kept = {n: s.value for n, s in steps.items() if s.op != "parameter" and n.endswith(ends)}
    found = diagnose(truth, compare(truth, kept), seconds=20)
    assert found is not None and found.named
    assert [cause.name for cause in found.causes] == [words]
    assert found.causes[0].explains == found.causes[0].of == 6


def test_from_blocks_alone_the_layer_between_them_is_searched() -> None:
    """Of a ViT, of which there are half as many edits as of a Swin."""
    settings = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    build = builder("vit_tiny", {**settings, "num_classes": 5})
    x, labels = recipe.images(2, 3, (8, 12)), recipe.labels(2, 5)
    truth, text = trace(build, x, labels, grad=False), Text(mlp.function)
    a = text.source.index("ops.gelu(")
    with Edit(text, [(a, a + 8, "ops.relu")], "planted", 0).planted():
        steps = trace(build, x, labels, grad=False, dtypes=("float32",)).arrays["float32"]
    blocks = ("image", "blocks.0.add_1", "blocks.1.add_1", "head")
    found = diagnose(truth, compare(truth, {n: steps[n] for n in blocks}), seconds=20)
    assert found is not None and "relu" in found.causes[0].edit.diff
    assert found.causes[0].explains == found.causes[0].of > 1


def test_an_edit_that_calls_a_layer_on_another_input_is_not_taken_for_what_they_had() -> None:
    """A block without its second residual: their MLP's output is that of the norm alone."""
    settings = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    build = builder("vit_tiny", {**settings, "num_classes": 5})
    x, labels = recipe.images(2, 3, (8, 12)), recipe.labels(2, 5)
    truth, text = trace(build, x, labels, grad=False), Text(Block.__call__)
    a = text.source.index("x + self.drop_path(self.mlp")
    with Edit(text, [(a, a + 4, "")], "planted", 0).planted():
        calls, steps = Ground(truth, {}).calls, trace(build, x, labels, grad=False)
    outputs = {c.path: c.output for c in calls[::-1] if c.path and c.output}
    theirs = {path: steps.arrays["float32"][name] for path, name in outputs.items()}
    found = diagnose(truth, compare(truth, theirs), seconds=20)
    assert found is not None and found.named
    (cause,) = found.causes
    assert cause.diff.endswith("+ return (self.drop_path(self.mlp(self.norm2(x))))")
    assert not cause.others  # such as self.mlp(x + self.drop_path(self.norm2(x)))


def test_what_is_kept_in_another_order_or_shape_is_looked_for_further_on() -> None:
    def wrong(name: str, verdict: str = "wrong") -> Finding:
        return Finding(name, step((), ()), verdict)

    rows = [wrong("a"), wrong("right", "right"), wrong("b", "shape"), wrong("c"), wrong("d")]
    a, _, b, _, d = rows
    given: dict[str, Any] = {f.name: None for f in rows}
    sure = Cause("rolled", None, explains=1, of=1)

    def asked(first: Finding, seen: list[str], shows: Finding, met: bool) -> list[Any]:
        """The order of what is tried where the cause shows at one tensor, met before or not."""
        tried: list[tuple[str, int, str]] = []

        def diagnosed(one: Comparison, much: int) -> Diagnosis:
            assert one.first is not None
            tried.append((one.first.name, much, " ".join(sorted(one.given))))
            named = one.first is shows and (met or much != KNOWN)
            return Diagnosis(one.first, [sure] if named else [], seen, 2)

        found = further_on(Comparison(rows, first, given, given, {}), diagnosed, {})
        assert found.finding is first and found.causes == [sure]
        assert (f" of {shows.name}, further on" in found.claim) == (shows is not first)
        assert found.tried == 2 * sum(much != KNOWN for _, much, _ in tried) or met
        return tried

    everything = "a b c d right"
    assert asked(a, ["it is zero"], a, met=False) == [("a", ALL, everything)]
    reordered = [("a", ALL, everything), ("c", ONE, "c d right"), ("d", ONE, "d right")]
    assert asked(a, [REORDERED], d, met=False) == reordered
    # another shape: all known mistakes, then one edit further on, and all edits of it at last
    known = [("b", KNOWN, everything), ("c", KNOWN, "c d right"), ("d", KNOWN, "d right")]
    assert asked(b, [], d, met=True) == known
    later = [(name, ONE, rest) for name, _, rest in known[1:]]
    assert asked(b, [], d, met=False) == known + later
    assert asked(b, [], b, met=False) == [*known, *later, ("b", ALL, everything)]


@pytest.mark.parametrize("kept", ["as ours", "as windows", "in another order"])
def test_a_known_mistake_further_on_is_told_only_where_the_first_is_kept_otherwise(
    kept: str,
) -> None:
    """Two mistakes are two: that of a later tensor does not give the first one."""
    rows = [Finding(name, step((), ()), "wrong") for name in ("first", "later")]
    rows[0].note = NOTE if kept == "as windows" else ""
    part, sure = Cause("a part", None, explains=1, of=2), Cause("known", None, explains=1, of=1)

    def diagnosed(one: Comparison, much: int) -> Diagnosis:
        assert one.first is not None
        causes = {ALL: [part], KNOWN: [sure] if one.first is rows[1] else []}[much]
        return Diagnosis(one.first, causes, [REORDERED] if kept == "in another order" else [], 2)

    found = further_on(Comparison(rows, rows[0], {}, {}, {}), diagnosed, {})
    assert found.finding is rows[0]
    assert found.causes == [part if kept == "as ours" else sure]
    said = "the first wrong tensor, and not" if kept == "as ours" else "of later, further on"
    assert said in found.claim


def test_windows_that_we_have_put_together_are_left_aside_where_nothing_else_is_found() -> None:
    first = Finding("map", step((), ()), "wrong")
    of = {"map": ("between",), "between": ("windows", "x"), "x": ()}
    steps = {n: replace(first.step, inputs=inputs) for n, inputs in of.items()}
    notes = {"windows": NOTE, "x": "", "map": "", "later": NOTE}
    given: dict[str, Any] = {name: SimpleNamespace(note=note) for name, note in notes.items()}
    sure, tried = Cause("a reshape", None, explains=1, of=1), []

    def diagnosed(one: Comparison, much: int) -> Diagnosis:
        tried.append((sorted(one.given), much))
        return Diagnosis(first, [sure] if "windows" not in one.given else [], [REORDERED], 2)

    found = further_on(Comparison([first], first, given, given, {}), diagnosed, steps)
    assert found.causes == [sure] and found.tried == 4
    assert tried == [(sorted(given), ALL), (["later", "map", "x"], ONE)]
    del given["windows"]
    assert further_on(Comparison([first], first, given, given, {}), diagnosed, steps).tried == 2


def test_two_edits_are_tried_that_change_together_what_is_wrong_and_nothing_else() -> None:
    def one(name: str) -> Any:
        return SimpleNamespace(words=name, rank=2, cost=(2, 1))

    given = {  # theirs is (1, 1, 3, 5), and ours four ones
        "third": (1, 1, 3, 1), "fourth": (1, 1, 1, 5), "first": (2, 1, 3, 5),
        "both": (1, 1, 9, 8), "third again": (1, 1, 7, 1),
    }  # fmt: skip
    search = Search.__new__(Search)
    search.site = SimpleNamespace(theirs=np.array([1.0, 1, 3, 5]))
    search.right, search.masks, search.least = np.ones(4), False, 1e-7
    tried = [(one(name), np.array(value, float)) for name, value in given.items()]
    search.tried = {id(edit): (edit, value) for edit, value in tried}
    found = {frozenset(e.words for e in pair.edits) for pair in search.pairs()}
    together = [("third", "fourth"), ("third again", "fourth")]
    assert found == {frozenset(p) for p in [*together, *((n, "both") for n in given)]} - {
        frozenset(("both",)), frozenset(("first", "both"))
    }  # fmt: skip


def test_an_edit_and_one_number() -> None:
    """Scores are not scaled, and probabilities are divided by √5."""
    mine = Text(spelled_out.function)
    scaled, rest = "q * q.shape[-1] ** -0.5", "@ v  #"
    a, b = mine.source.index(scaled), mine.source.index(rest)
    middle = mine.source[a + len(scaled) : b]
    truth, comparison = wrong_port(
        spelled_out.function, mine.source[a:b], f"q{middle}* (1 / 5**0.5) ",
        tuple(BLOCK + name for name in ("q", "k", "v", "merged")),
    )  # fmt: skip
    ground = Ground(truth, {n: m.array for n, m in comparison.given.items()}, images=1)
    search = Search(sites_of(ground, BLOCK + "merged")[0], 2.0**-24, Clock(30))
    (mine,) = [text for text in search.site.texts if text.function is mine.function]
    edits = edits_of(mine, watch([mine], lambda: search.site.run(whole=True)), most=2.5)
    assert not search.run(edits, "edits")
    (found,) = on_top(search)
    assert found.number == pytest.approx(5**-0.5, rel=1e-6)
    assert "+ logits = ((q)) @ k.transpose(*swapped)" in found.edit.diff


def test_a_function_of_a_module_that_comes_later_can_be_edited(monkeypatch: Any) -> None:
    """The functions are looked for once, while the same modules are loaded."""
    before, later = known_functions(), ModuleType("minswin.layers.later")
    exec(compile("def f(): ...", str(PACKAGE / "layers/later.py"), "exec"), later.__dict__)
    monkeypatch.setitem(sys.modules, later.__name__, later)
    assert set(known_functions()) - set(before) == {later.f.__code__}


def test_one_free_number_has_a_closed_form() -> None:
    assert closed_form(2.0794415) == "ln 8"
    assert closed_form(-0.5) == "−1/2" and closed_form(1.2345678) == ""


# ── what else is true ────────────────────────────────────────────────────────────────────────────


def step(axes: tuple[str, ...], shape: tuple[int, ...]) -> Step:
    return Step("x", "x", "x", np.zeros(shape), axes=axes)


def said(theirs: np.ndarray, right: np.ndarray, axes: tuple[str, ...] = ("a", "b")) -> str:
    return "; ".join(observe(step(axes, right.shape), theirs, right))


def test_what_is_true_of_a_wrong_tensor_is_said() -> None:
    right = np.random.default_rng(0).standard_normal((4, 6))
    assert "times 2 everywhere" in said(2 * right, right)
    assert "plus 3 everywhere" in said(right + 3, right)
    assert "zero everywhere" in said(0 * right, right)
    assert "reversing its axis 1 (b)" in said(right[:, ::-1], right)
    assert "order along its axis 0 (a)" in said(right[[1, 0, 3, 2]], right)
    square = right[:, :4]
    assert "exchanging its axes 0 (a) and 1 (b)" in said(square.T, square)
    some = right.copy()
    some[1] += 1
    assert "only a 1 (of 0 to 3) is wrong" in said(some, right)


def test_a_derivative_is_named_where_cotangents_behind_it_are_not_theirs() -> None:
    """What is not theirs is computed by the edited text, not held at what is right."""
    fault = next(f for f in classics() if f.name == "norm without the gradient of its mean")
    with planted(fault):
        theirs = score.run("square", ("float32",)).arrays["float32"]
    theirs = {n: x for n, x in theirs.items() if "cotangent" not in n or n.endswith("mlp.fc2")}
    found = compare(score.truth("square"), theirs)
    diagnosis = diagnose(score.truth("square"), found)
    assert diagnosis is not None and diagnosis.causes[0].name == fault.words


def test_a_gradient_times_one_number_is_named() -> None:
    """Backward of fused attention with another scale than forward."""
    text = Text(spelled_out.function)
    scores = "(q * q.shape[-1] ** -0.5) @ k.transpose(*swapped)"
    at = text.source.index(scores)
    edit = Edit(text, [(at, at + len(scores), f"e_pulled({scores})")], "", 0)
    with free(0.625**0.5), edit.planted(), kernels.using("reference"):
        theirs = score.run("square", ("float32",)).arrays["float32"]
    diagnosis = diagnose(score.truth("square"), compare(score.truth("square"), theirs))
    assert diagnosis is not None and diagnosis.causes[0].name == "this term × 0.7905694 = √(5/8)"
    assert "its gradient times c" in diagnosis.causes[0].edit.diff


def test_a_second_edit_is_tried_on_top_of_what_is_right_but_for_a_number() -> None:
    """A mistake that scales, of two: alone it is farther from theirs than many another edit is."""
    draw = np.random.default_rng(0)
    theirs = draw.standard_normal(50)
    noise = [theirs + draw.standard_normal(50) / 2 for _ in range(20)]
    search = Search.__new__(Search)
    search.site = SimpleNamespace(theirs=theirs)
    edits = [SimpleNamespace(cost=i, text=i) for i in range(22)]
    huge = np.full(50, 1e200)  # its square is no number
    search.tried = dict(enumerate(zip(edits, [*noise, 9 * theirs, huge], strict=True)))
    with np.errstate(all="raise", under="ignore"):
        nearest = search.nearest()
    assert edits[20] in nearest[NEAREST:] and len(nearest) == NEAREST + SCALED


@pytest.mark.parametrize("name", ["not rolled back", "rolled up and left twice"])
def test_windows_of_a_port_hide_no_mistake_in_putting_them_together(name: str) -> None:
    """What `proj` gives is right, as windows inside the roll; the map made of them is not."""
    truth, block = score.truth("square"), "layers.0.blocks.1."
    with planted(next(c for c in classics() if c.name == name)):
        wrong = score.run("square", ("float32",)).arrays["float32"]
    right, of = truth.arrays["float32"][block + "attn.proj"], windows_of(truth.steps)
    windows = of[block + "attn.proj"]
    B, rows, columns, C = right.shape
    whole = np.zeros((B, *windows.grid, C), np.float32)
    whole[:, :rows, :columns] = right
    rolled = np.roll(whole, [-s for s in windows.shift], (1, 2))
    cut, _ = window_partition(rolled, window=windows.window)
    front = {n: x for n, x in wrong.items() if n.startswith(("layers.0.blocks.0.", block + "norm"))}
    front[block + "attn.proj"] = cut.reshape(-1, *cut.shape[2:])
    comparison = compare(
        truth, {**front, "image": wrong["image"], truth.logits: wrong[truth.logits]}
    )
    assert comparison.first is not None
    found = diagnose(truth, comparison)
    assert found is not None
    assert comparison.first.name == block + "norm2"
    assert found.named

"""The cross-check kit's probes: what is right passes, and every planted mistake is found."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from faults_in_adapters import FAULTS, attention

from minswin import kernels
from minswin.crosscheck import own, report
from minswin.crosscheck.adapter import FUNCTIONS, adapter_of, protocol
from minswin.crosscheck.conform import conform, examine, judge, questions
from minswin.crosscheck.probes import Probe, pack
from minswin.crosscheck.report import DIFFERS, NOT_COVERED, PASSED, REFUSED, Verdict

PROBES = {probe.name: probe for probe in pack()}
OWN = {name: getattr(own, name) for name in FUNCTIONS}


def asked(dtype: str = "float64", **functions):
    """An adapter of these functions alone."""
    return adapter_of(SimpleNamespace(dtype=dtype, **functions), "a test")


def said(function, probe, dtype="float64"):
    """What becomes of one probe where an adapter has this function."""
    return examine(asked(dtype, **{PROBES[probe].function: function}), PROBES[probe])


# ── what is right ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype, backend", [("float64", "numba"), ("float32", "reference")])
def test_minswins_own_adapter_passes_everything(dtype, backend):
    with kernels.using(backend):
        verdicts = list(conform(asked(dtype, **OWN)))
    assert [v for v in verdicts if v.status != PASSED] == []
    assert len(verdicts) == len(questions())


def test_minswins_own_adapter_passes_in_float32_with_numba():
    adapter = asked("float32", **OWN)
    with kernels.using("numba"):
        verdicts = [examine(adapter, probe) for probe in pack()]
    assert [v for v in verdicts if v.status != PASSED] == []


@pytest.mark.parametrize("name", [n for n in PROBES if n.startswith("window_attention/")])
def test_attention_by_loops_passes(name):
    verdict = said(attention, name)
    assert verdict.status == PASSED, verdict.message


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_is_found_by_the_probe_that_is_aimed_at_it(name):
    fault = FAULTS[name]
    with kernels.using("reference"):
        verdict = said(fault.wrong, fault.probe, fault.dtype)
    assert verdict.status == DIFFERS
    assert not verdict.message.startswith("raised"), verdict.message
    assert verdict.error > 10 * verdict.allowed


@pytest.mark.parametrize(
    "fault, kind",
    [
        ("partition without a transposition", "law/merge_undoes_partition"),
        ("rolled along the wrong axes", ""),
        ("meshgrid counts columns first", "law/index_mirrors"),
        ("mask always zero", "law/mask_counts"),
        ("softmax of queries", "law/softmax_rows"),
        ("heads before q, k, v", ""),
    ],
)
def test_laws_find_what_breaks_them(fault, kind):
    wrong = FAULTS[fault]
    adapter = asked(**{**OWN, wrong.function: wrong.wrong})
    laws = [q for q in questions() if not isinstance(q, Probe) and q.function == wrong.function]
    laws += [q for q in questions() if q.name == kind and q not in laws]
    found = {law.name for law in laws if examine(adapter, law).status == DIFFERS}
    assert (kind in found) if kind else not found


def test_a_wrong_function_with_the_right_numbers_somewhere_else_is_not_blamed():
    verdict = said(FAULTS["windows of a column for those of a row"].wrong, "window_merge/wide")
    assert "the right numbers in another order" in verdict.message
    flat = said(lambda x: 0 * x, "gelu/far")
    assert "zero everywhere" in flat.message
    twice = said(lambda *given: 2 * own.cross_entropy(*given), "cross_entropy/batch_3")
    assert twice.status == DIFFERS and "times" not in twice.message  # so is any number


def test_a_probe_that_differs_says_where_why_and_who_met_it():
    verdict = said(FAULTS["rolled before it is padded"].wrong, "window_attention/padded")
    told = "\n".join(report.explain(verdict))
    assert "y[" in told and "expected" in told and "padded before the roll" in told
    assert "huggingface/pytorch-image-models#2438" in told


# ── not covered ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_missing_is_not_covered_and_not_passed():
    verdicts = list(conform(asked(gelu=own.gelu)))
    passed = {v.name for v in verdicts if v.status == PASSED}
    assert passed == {"gelu/near_-2.7", "gelu/far", "law/gelu_mirrors"}
    assert {v.status for v in verdicts if v.name not in passed} == {NOT_COVERED}
    text = report.terminal("a test", verdicts)
    assert f"3 passed, 0 differ, 0 refused, {len(verdicts) - 3} not covered" in text


def test_the_report_is_about_what_was_asked_and_has_one_line_for_all_the_rest():
    verdicts = list(conform(asked(gelu=own.gelu)))
    rows = report.terminal("a test", verdicts).splitlines()
    assert [row.split()[0] for row in rows[3:6]] == ["gelu", "law", "not"]
    assert rows[5].startswith("not asked (133 probes): window_partition, window_partition_grad")
    assert sum("not asked" in row for row in rows) == 1 and len(rows) == 8
    everything = report.terminal("a test", [v for v in verdicts if v.status == PASSED])
    assert "not asked" not in everything
    assert "softmax" not in report.markdown("a test", verdicts)


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


def squares(x, window):
    if window[0] != window[1]:
        raise ValueError("square windows only")
    return own.window_partition(x, window)


def squares_by_accident(x, window):
    if window[0] == window[1]:
        return own.window_partition(x, window)
    return x.reshape(len(x), -1, window[0], 11)


def test_a_size_that_a_port_says_no_to_is_refused_and_nothing_differs():
    verdicts = list(conform(asked(window_partition=squares)))
    assert {v.name: v.message for v in verdicts if v.status == REFUSED} == {
        "window_partition/window_2x5": "raised ValueError: square windows only",
        "window_partition/window_1x4": "raised ValueError: square windows only",
        "law/partition_is_a_permutation": "raised ValueError: square windows only",
    }
    assert not [v for v in verdicts if v.status == DIFFERS]
    text = report.terminal("a test", verdicts)
    assert "refused: window_partition/window_2x5: it raised ValueError" in text
    assert "3 refused" in text


def test_a_crash_is_no_refusal_nor_is_a_no_to_everything():
    verdict = said(squares_by_accident, "window_partition/window_2x5")
    assert verdict.status == DIFFERS and "cannot reshape" in verdict.message

    def never(x, window):
        raise ValueError("not today")

    assert said(never, "window_partition/window_2x5").status == DIFFERS

    def wrong_elsewhere(x, window):
        return -squares(x, window)

    assert said(wrong_elsewhere, "window_partition/window_2x5").status == DIFFERS


def test_what_an_adapter_does_not_implement_is_not_covered():
    def squares_only(x, window):
        raise NotImplementedError("square windows only")

    verdict = said(squares_only, "window_partition/window_2x5")
    assert verdict.status == NOT_COVERED and "square windows only" in verdict.message


def test_laws_are_not_covered_without_hypothesis(monkeypatch):
    from minswin.crosscheck.probes import laws as probes_laws

    monkeypatch.setattr(probes_laws, "find_spec", lambda name: None)
    verdicts = [examine(asked(**OWN), q) for q in questions() if not isinstance(q, Probe)]
    assert {v.status for v in verdicts} == {NOT_COVERED}
    assert "minswin[test]" in verdicts[0].message


# ── adapters that answer nonsense ────────────────────────────────────────────────────────────────


class Ragged:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("setting an array element with a sequence")


@pytest.mark.parametrize(
    "answer, expected",
    [
        (None, "None"),
        (np.zeros((2, 3)), "the shape is (2, 3), expected (3, 7)"),
        (np.full((3, 7), np.nan), "21 of 21 are NaN, the first at (0, 0)"),
        (np.full((3, 7), np.inf), "is inf"),
        (np.zeros((3, 7), np.float16), "float16, expected float64"),
        (np.zeros((3, 7), np.float32), "float32, expected float64"),
        (np.zeros((3, 7), np.int64), "int64, expected floating-point numbers"),
        (np.zeros((3, 7), complex), "no numbers"),
        (np.full((3, 7), "x"), "no numbers"),
        ([[1.0], [2.0, 3.0]], "no array"),
        (Ragged(), "no array but Ragged"),
        ({}, "y is missing; what came: nothing"),
        ({"z": np.zeros((3, 7))}, "y is missing; what came: z"),
        (object(), "no numbers"),
    ],
    ids=lambda x: str(x)[:20] if isinstance(x, str) else type(x).__name__,
)
def test_an_answer_that_is_none_is_a_finding(answer, expected):
    verdict = said(lambda x: answer, "gelu/far")
    assert verdict.status == DIFFERS and expected in verdict.message, verdict.message


def test_lists_and_the_other_byte_order_are_numbers_too():
    truth = PROBES["gelu/far"].expected["y"]
    assert said(lambda x: truth.tolist(), "gelu/far").status == PASSED
    assert said(lambda x: truth.astype(">f8"), "gelu/far").status == PASSED


class PanicException(BaseException):
    """What a panic in Rust is on this side of PyO3: no Exception."""


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error",
    [ValueError("no\nluck"), KeyError("x"), SystemExit(1), PanicException("at index 3"), Mute()],
)
def test_an_adapter_that_raises_is_a_finding(error):
    def wrong(x):
        raise error

    verdict = said(wrong, "gelu/far")
    assert verdict.status == DIFFERS
    assert (
        verdict.message.startswith(f"raised {type(error).__name__}") and "\n" not in verdict.message
    )


def test_a_panic_is_a_finding_everywhere_and_only_ctrl_c_stops():
    def panic(*given, **options):
        raise PanicException("at index 3")

    law = next(q for q in questions() if q.name == "law/gelu_mirrors")
    verdict = examine(asked(gelu=panic), law)
    assert verdict.status == DIFFERS and "PanicException: at index 3" in verdict.message
    lazy = type("Lazy", (), {"__array__": panic})
    verdict = said(lambda x: lazy(), "gelu/far")
    assert verdict.status == DIFFERS and "at index 3" in verdict.message

    def stop(x):
        raise KeyboardInterrupt

    for question in (PROBES["gelu/far"], law):
        with pytest.raises(KeyboardInterrupt):
            examine(asked(gelu=stop), question)


def test_an_adapter_that_writes_into_its_inputs_spoils_no_later_probe():
    def spoil(x):
        y = own.gelu(x)
        x[...] = 7
        return y

    assert said(spoil, "gelu/far").status == PASSED
    assert said(own.gelu, "gelu/far").status == PASSED


def test_what_gives_nothing_is_told_so_by_laws_and_where_a_dict_or_a_function_was_asked_for():
    law = next(q for q in questions() if q.name == "law/gelu_mirrors")
    assert examine(asked(gelu=lambda x: None), law).message == "the adapter gave None"
    for probe, missing in (
        ("layer_norm_grad/rows", "x"),
        ("build_model/big_small_big", "logits_0"),
    ):
        verdict = said(lambda *given: None, probe)
        assert f"{missing} is missing; what came: NoneType" in verdict.message


def test_a_gradient_that_is_left_out_is_a_finding():
    def without_bias(*arguments):
        found = own.layer_norm_grad(*arguments)
        return {name: g for name, g in found.items() if name != "bias"}

    verdict = said(without_bias, "layer_norm_grad/rows")
    assert verdict.status == DIFFERS and "bias is missing" in verdict.message


def test_minus_infinity_and_booleans_are_masks_or_not():
    def infinite(*geometry):
        return np.where(own.attention_mask(*geometry) < 0, -np.inf, 0.0)

    assert said(infinite, "attention_mask/wide").status == PASSED
    weak = said(lambda *g: own.attention_mask(*g) / 2, "attention_mask/wide")
    assert weak.status == DIFFERS


@pytest.mark.parametrize("depth", [-1e-3, -100.0, -np.inf])
def test_a_mask_without_a_shift_must_be_zero(depth):
    def masked(grid, window, shift):
        return own.attention_mask(grid, window, shift) + depth

    assert said(masked, "attention_mask/no_shift").status == DIFFERS
    assert said(own.attention_mask, "attention_mask/no_shift").status == PASSED


# ── the probes themselves ────────────────────────────────────────────────────────────────────────


def test_every_function_of_the_protocol_has_a_probe_and_is_in_its_description():
    assert {p.function for p in PROBES.values()} == set(FUNCTIONS)
    assert all(f"{name}(" in protocol() for name in FUNCTIONS if not name.endswith("_grad"))


def test_inputs_are_exact_in_float32_and_cotangents_are_random():
    for probe in PROBES.values():
        for name, x in probe.arrays().items():
            assert np.array_equal(x.astype(np.float32), x), (probe.name, name)
        g = probe.arguments.get("cotangent")
        assert g is None or g.size == 1 or len(np.unique(g)) > g.size // 2, probe.name


def test_attention_probes_have_maps_larger_than_the_window():
    """So that the shift is that of the call, and no rule for small maps takes it away."""
    for probe in PROBES.values():
        if probe.function in ("window_attention", "window_attention_v2"):
            grid, window = probe.arguments["x"].shape[1:3], probe.arguments["window"]
            larger = all(n > M for n, M in zip(grid, window, strict=True))
            assert larger or not any(probe.arguments["shift"]), probe.name


def test_an_error_of_rounding_passes_and_a_hundred_times_as_much_does_not():
    probe = PROBES["mlp/tokens"]
    (truth,) = probe.expected.values()
    for factor, status in ((0.5, PASSED), (100.0, DIFFERS)):
        limit = np.finfo(np.float32).eps * probe.length * abs(truth).max()
        answer = {"y": truth + factor * limit}
        assert judge(probe, answer, np.dtype("float32")).status == status


# ── reports ──────────────────────────────────────────────────────────────────────────────────────

VERDICTS = [
    Verdict("gelu/far", PASSED, "", "an aim", error=1e-9, allowed=1e-8),
    Verdict("gelu/near", DIFFERS, "a | b \x07 <c> & 'd'", "an aim", ("a/b#1",), np.inf, 0.0),
    Verdict("roll/one", NOT_COVERED, "the adapter has no roll", "an aim"),
]


def test_markdown_has_a_row_for_every_probe_and_links_the_threads():
    text = report.markdown("a | test", VERDICTS)
    assert "[a/b#1](https://github.com/a/b/issues/1)" in text and "a \\| b" in text
    rows = [line for line in text.splitlines() if line.startswith("| `") and "/" in line]
    assert len({row.split("|")[1] for row in rows}) == 2
    assert "not asked (1 probes): roll" in text

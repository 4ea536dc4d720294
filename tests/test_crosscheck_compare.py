"""The first wrong tensor is found, where it is wrong, and nothing that is right is blamed."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minswin.cli import main
from minswin.crosscheck import folder, recipe, score
from minswin.crosscheck.align import losses_of
from minswin.crosscheck.compare import GOOD, Comparison, compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.classics import classics, planted
from minswin.crosscheck.observations import REORDERED, describe
from minswin.crosscheck.trace import trace
from minswin.models import create_model

FINE = (*GOOD, "missing")


@cache
def truth() -> folder.Trace:
    """Maps of 14×9 and 7×5 under windows of 4: all are padded. Three images."""
    return score.truth("trained")


def theirs(dtype: str = "float32") -> dict[str, np.ndarray]:
    """A right implementation, to be spoilt."""
    return {n: np.array(x) for n, x in truth().arrays[dtype].items()}


def with_fault(name: str) -> dict[str, np.ndarray]:
    fault = next(f for f in classics() if f.name == name)
    with planted(fault):
        return dict(score.run("trained", ("float32",)).arrays["float32"])


def first(found: Comparison) -> Any:
    assert found.first is not None
    return found.first


# ── no false alarm ───────────────────────────────────────────────────────────────────────────────


def build(name: str, settings: dict[str, Any]) -> Any:
    return lambda dtype: create_model(name, **settings, rng=np.random.default_rng(0), dtype=dtype)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_order_of_sums_is_no_divergence(backend: str, dtype: str) -> None:
    settings = score.CASES["square"]
    x, labels = recipe.images(3, 3, settings["img_size"]), recipe.labels(3, 5)
    other = trace(build("swin_tiny", settings), x, labels, dtypes=(dtype,), backend=backend)
    found = compare(truth(), other.arrays[dtype])
    assert {f.verdict for f in found.findings} <= {*FINE}, first(found)
    compared = [f for f in found.findings if f.verdict != "missing"]
    assert len(compared) > 200 and not found.unused
    if dtype == "float32":
        assert {f.verdict for f in compared} == {"equal", "right"}


def test_the_limits_are_not_absurdly_wide() -> None:
    """Of all kinds of steps that round, most come to a hundredth of the limit or nearer."""
    found = compare(truth(), theirs())
    nearest: dict[str, float] = {}
    for f in found.findings:
        if f.name == f.step.name and f.verdict == "right" and f.given == "its own inputs":
            nearest[f.step.kind] = max(nearest.get(f.step.kind, 0), f.off)
    rounding = {kind: off for kind, off in nearest.items() if off > 0}
    assert len(rounding) >= 10 and max(rounding.values()) <= 1
    assert [k for k, off in rounding.items() if off < 0.01] == []


OTHERS = {
    "vit_cifar": {"img_size": (8, 12), "patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 2},
    "swinv2_cifar": {"depths": (2, 1), "num_heads": (2, 3), "embed_dim": 6, "img_size": (12, 20)},
    "tnt_cifar": {"depth": 1},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_raise_no_false_alarm(name: str) -> None:
    model = build(name, OTHERS[name])(np.float32)
    x = recipe.images(2, 3, model.img_size)
    found = trace(build(name, OTHERS[name]), x, recipe.labels(2, 5))
    assert compare(found, found.arrays["float32"]).passed


# ── the first divergence ─────────────────────────────────────────────────────────────────────────


def test_one_element_is_named_in_words_of_swin() -> None:
    spoilt = theirs()
    name = "layers.0.blocks.1.attn.logits"
    spoilt[name][1, 7, 1, 6, 13] += 0.5  # window 7 of rows of 3; tokens 6 and 13 of 4×4
    found = compare(truth(), spoilt)
    assert (first(found).name, first(found).worst) == (name, (1, 7, 1, 6, 13))
    told = describe(truth().steps[name], first(found).worst, truth().steps)
    # rolled rows 9 and 11, columns 6 and 5; two up and left of where they come from; 2 pixels each
    assert told == (
        "image 1, window (2, 1), head 1, query (1, 2) ↔ key (3, 1); image coordinates "
        "(rows 22…23, columns 16…17) ↔ (rows 26…27, columns 14…15)"
    )


def places(name: str, *index: int) -> str:
    step = truth().steps[name]
    return describe(step, index, truth().steps)


def test_tokens_of_the_padding_are_called_so() -> None:
    """The map of 14×9 stands in one of 16×12; the last window is at its lower right end."""
    block = "layers.0.blocks.0.attn."
    assert places(block + "padded", 0, 14, 3, 1).endswith("; image coordinates padding")
    assert places(block + "padded", 0, 13, 8, 1).endswith("(rows 26…27, columns 16…17)")
    assert places(block + "windows", 2, 11, 15, 0).endswith("; image coordinates padding")
    told = places(block + "scores", 0, 11, 0, 0, 15)
    assert told.endswith("(rows 24…25, columns 16…17) ↔ padding")
    assert places("layers.0.downsample.padded", 0, 5, 9, 0).endswith("padding")


def test_behind_a_merge_a_token_is_twice_as_many_pixels_and_ends_with_the_image() -> None:
    merged = places("layers.0.downsample.neighbours", 0, 6, 4, 0)
    assert merged.endswith("(rows 24…27, columns 16…17)")  # 18 columns, of which the last two
    assert places("layers.1.blocks.0.norm1", 0, 1, 2, 3).endswith("(rows 4…7, columns 8…11)")
    assert places("norm", 0, 1, 2, 3).endswith("(rows 4…7, columns 8…11)")


def test_rolls_are_undone_in_image_coordinates() -> None:
    told = places("layers.0.blocks.1.attn.shifted", 0, 15, 11, 2)  # came from (1, 1)
    assert "rolled row 15, column 11" in told and told.endswith("(rows 2…3, columns 2…3)")


def test_what_comes_after_a_mistake_follows_from_it() -> None:
    found = compare(truth(), with_fault("no scale"))
    assert first(found).name == "layers.0.blocks.0.attn.scores"
    verdicts = {f.name: f.verdict for f in found.findings}
    assert verdicts["layers.0.blocks.0.attn.logits"] == "follows"
    assert verdicts["head"] == "follows"
    again = [f.name for f in found.findings if f.verdict == "wrong" and f.name in truth().steps]
    assert all(name.endswith("scores") for name in again) and len(again) == 4


@pytest.mark.parametrize("name", ["no scale", "neighbours row by row", "never shifted"])
def test_block_outputs_alone_show_the_block(name: str) -> None:
    spoilt = {n: x for n, x in with_fault(name).items() if n.endswith(".output") or n == "image"}
    found = compare(truth(), spoilt)
    expected = {
        "no scale": "layers.0.blocks.0.output",
        "neighbours row by row": "layers.1.blocks.0.output",
        "never shifted": "layers.0.blocks.1.output",
    }
    assert first(found).name == expected[name] and first(found).given == "earlier tensors"
    right = {n: x for n, x in theirs().items() if n in spoilt}
    assert compare(truth(), right).passed


def test_a_wrong_gradient_is_found_nearest_to_the_loss() -> None:
    spoilt = theirs()
    for name in ("head.weight", "layers.1.blocks.1.norm2.bias", "patch_embed.proj.bias"):
        spoilt[f"cotangent/{name}"] *= np.float32(1.001)
    assert first(compare(truth(), spoilt)).name == "cotangent/head.weight"
    del spoilt["cotangent/head.weight"]
    assert first(compare(truth(), spoilt)).name == "cotangent/layers.1.blocks.1.norm2.bias"


def test_a_weight_after_training_is_compared() -> None:
    spoilt = theirs()
    spoilt["after/head.bias"][2] += 1e-3
    found = first(compare(truth(), spoilt))
    assert (found.name, found.worst) == ("after/head.bias", (2,))


def test_losses_are_compared_step_by_step(tmp_path: Path, capsys: Any) -> None:
    losses = np.array(truth().header["losses"]["float32"])
    assert compare(truth(), {**theirs(), "losses": losses}).passed
    losses[2] *= 1.001
    found = first(compare(truth(), {**theirs(), "losses": losses}))
    assert (found.name, found.worst) == ("losses", (2,))
    folder.write(truth(), tmp_path / "t")
    np.savez(tmp_path / "x.npz", **theirs(), losses=losses)
    assert main(["compare", str(tmp_path / "t"), str(tmp_path / "x.npz")]) == 1
    printed = capsys.readouterr().out
    assert "First divergence: losses" in printed and "optimizer step 2" in printed
    rows = printed.split("optimizer steps ")[1].splitlines()[1:5]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]


# ── strange tensors ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_findings(bad: float) -> None:
    spoilt = theirs()
    spoilt["layers.1.blocks.0.residual"][2, 3, 1, 0] = bad
    found = first(compare(truth(), spoilt))
    assert (found.verdict, found.worst) == ("not finite", (2, 3, 1, 0))
    assert found.note.startswith("1 of ")


def test_minus_infinity_may_stand_for_minus_100_in_a_mask() -> None:
    other = theirs()
    for name in other:
        if name.endswith(("mask", "logits")) and "cotangent" not in name:
            other[name][other[name] < -50] = -np.inf
    found = compare(truth(), other)
    assert found.passed
    assert any("lower still" in f.note for f in found.findings)
    other["layers.0.blocks.1.attn.mask"][0, 0, 0, 0] = -np.inf  # a pair that may see each other
    assert first(compare(truth(), other)).verdict == "not finite"


def test_a_mask_of_minus_infinity_in_another_order_of_windows_is_told() -> None:
    mask = truth().arrays["float32"][name := "layers.0.blocks.1.attn.mask"]
    found = compare(truth(), {**theirs(), name: np.where(mask < -50, -np.inf, mask)[::-1]})
    assert (first(found).name, first(found).verdict) == (name, "not finite")
    diagnosis = diagnose(truth(), found, seconds=1)
    assert diagnosis is not None and REORDERED in diagnosis.observations


def test_wrong_losses_behind_a_tensor_in_another_order_are_no_value_of_the_pass() -> None:
    name, ours = "layers.0.blocks.0.norm2", losses_of(truth(), "float64")["losses"]
    found = compare(truth(), {name: theirs()[name][:, ::-1], "losses": ours + 1})
    assert (first(found).name, first(found).verdict) == (name, "wrong")
    diagnosis = diagnose(truth(), found, seconds=1)
    assert diagnosis is not None and REORDERED in diagnosis.observations


def test_another_shape_is_a_finding() -> None:
    spoilt = theirs()
    spoilt["norm"] = spoilt["norm"][:, :6]
    found = first(compare(truth(), spoilt))
    assert found.verdict == "shape"
    assert found.note == "expected (3, 7, 5, 24), got (3, 6, 5, 24) float32"


@pytest.mark.parametrize(
    ("name", "verdict", "change"),
    [
        ("labels", "wrong", lambda x: x + 5),  # no classes, as where they begin at 1
        ("image", "shape", lambda x: x[:, :2]),
        ("head.weight", "shape", lambda x: x[:2]),
        ("head.weight", "wrong", lambda x: np.sign(x).astype(int)),
    ],
)
def test_what_a_pass_starts_from_may_be_wrong(name: str, verdict: str, change: Any) -> None:
    spoilt = {n: x for n, x in theirs().items() if n in (name, "head")}
    found = compare(truth(), {**spoilt, name: change(spoilt.get(name, truth().steps[name].value))})
    assert (first(found).name, first(found).verdict) == (name, verdict)
    diagnosis = diagnose(truth(), found, seconds=1)
    assert diagnosis is not None and not diagnosis.causes


@pytest.mark.parametrize(
    "name", ["cotangent/head.bias", "cotangent/norm", "after/head.bias", "losses"]
)
def test_a_gradient_or_what_was_trained_of_another_shape_is_a_finding(name: str) -> None:
    """As a gradient of a bias that was not summed over the batch."""
    spoilt = {**theirs(), "losses": losses_of(truth(), "float64")["losses"]}
    spoilt[name] = np.stack([spoilt[name]] * 3)
    found = compare(truth(), spoilt)
    assert (first(found).name, first(found).verdict) == (name, "shape")
    diagnosis = diagnose(truth(), found, seconds=1)
    assert diagnosis is not None and diagnosis.claim == "none is possible here; see 'how' above"


def test_a_gradient_that_is_no_number_is_a_finding_where_a_mask_may_be_minus_infinity() -> None:
    name = "cotangent/layers.0.blocks.1.attn.logits"
    found = compare(truth(), {**theirs(), name: np.full_like(theirs()[name], -np.inf)})
    assert (first(found).name, first(found).verdict) == (name, "not finite")
    diagnosis = diagnose(truth(), found, seconds=1)
    assert diagnosis is not None and not diagnosis.causes


def test_the_weights_that_fit_tell_where_others_have_another_shape() -> None:
    spoilt = theirs()
    spoilt["after/head.weight"] = spoilt["after/head.weight"][:2]
    spoilt["after/head.bias"] = spoilt["after/head.bias"] + 1
    found = compare(truth(), spoilt)
    found.first = next(f for f in found.findings if f.name == "after/head.bias")
    diagnosis = diagnose(truth(), found, seconds=1)
    assert diagnosis is not None and not diagnosis.causes


def test_half_precision_has_its_own_limits() -> None:
    """Right for float16 is far off for float32, and a mistake still shows."""
    half = {n: x.astype("f2") if x.dtype.kind == "f" else x for n, x in theirs().items()}
    names = [n for n in half if n.startswith("patch_embed.proj") or n == "image"]
    chosen = {n: half[n] for n in names}
    found = compare(truth(), chosen)
    assert {f.verdict for f in found.findings} <= {*FINE}
    as_single = {n: x.astype("f4") for n, x in chosen.items()}
    assert compare(truth(), as_single).passed  # the hook widened it
    as_single["patch_embed.proj"] = as_single["patch_embed.proj"] * np.float32(1.0001)
    assert not compare(truth(), as_single).passed
    chosen["patch_embed.proj"] = -chosen["patch_embed.proj"]
    assert first(compare(truth(), chosen)).name == "patch_embed.proj"


def test_tensors_that_are_missing_or_empty_or_too_many_do_no_harm() -> None:
    other = {n: x for n, x in theirs().items() if n in ("image", "head", "loss")}
    other |= {"nothing": np.zeros((0, 3)), "my_counter": np.array(7)}
    found = compare(truth(), other)
    assert found.passed and found.unused == ["nothing", "my_counter"]
    assert sum(f.verdict != "missing" for f in found.findings) == 3
    other["head"] = np.zeros((0, 5), "f4")
    assert first(compare(truth(), other)).verdict == "shape"


# ── input that cannot be compared ────────────────────────────────────────────────────────────────


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    folder.write(truth(), tmp_path / "truth")
    return tmp_path


def npy(where: Path, **arrays: Any) -> None:
    where.mkdir()
    for name, x in arrays.items():
        np.save(where / f"{name}.npy", x, allow_pickle=True)


def _truncated(t: Path) -> None:
    npy(t / "x", head=np.zeros((3, 5)))
    whole = (t / "x" / "head.npy").read_bytes()
    (t / "x" / "head.npy").write_bytes(whole[:-9])


def _no_json(t: Path) -> None:
    (t / "truth" / "manifest.json").write_text("{")


def _no_trace(t: Path) -> None:
    (t / "truth" / "manifest.json").write_text("[]")


def _incomplete(t: Path) -> None:
    manifest = json.loads((t / "truth" / "manifest.json").read_text())
    del manifest["steps"][5]["axes"]
    (t / "truth" / "manifest.json").write_text(json.dumps(manifest))


def _of_another_model(t: Path) -> None:
    other = folder.read(t / "truth")
    other.header["model"] = "vit_small"
    folder.write(other, t / "x")


def _of_two_images(t: Path) -> None:
    other = folder.read(t / "truth")
    for name in ("image", "labels"):
        other.steps[name].value = other.steps[name].value[:2]
        for arrays in other.arrays.values():
            arrays[name] = other.steps[name].value  # type: ignore[index]
    folder.write(other, t / "x")


def _of_sgd(t: Path) -> None:
    other = folder.read(t / "truth")
    other.header["optimizer"] = {**other.header["optimizer"], "lr": 0.5}
    folder.write(other, t / "x")


BAD = {
    "an empty folder": (lambda t: (t / "x").mkdir(), "holds no .npy file; expected one for each"),
    "nothing there": (lambda t: None, "does not exist; expected a trace, a folder of .npy files"),
    "complex numbers": (lambda t: npy(t / "x", head=np.zeros(3, "c8")), "head is of complex64"),
    "strings": (lambda t: npy(t / "x", head=np.array(["a"])), "head is of <U1; expected real"),
    "objects": (lambda t: npy(t / "x", head=np.array([{}])), "Python objects in dtype"),
    "a truncated file": (_truncated, "head.npy cannot be read"),
    "no name in common": (
        lambda t: npy(t / "x", foo=np.zeros((2, 7))),
        "none of their tensors has the name, or shape and values, of one of ours; ours are called",
    ),
    "an npz that is text": (lambda t: (t / "x").write_text("hello"), "x"),
    "a manifest that is no JSON": (_no_json, "manifest.json is no JSON"),
    "a manifest of something else": (_no_trace, "is no 'minswin trace 1'"),
    "a manifest without axes": (_incomplete, "is incomplete: 'axes' is missing"),
    "a trace of another batch": (_of_two_images, "of two passes: the shape of its inputs is {"),
    "a trace of another optimizer": (_of_sgd, "of two passes: optimizer is {'name': 'adamw', "),
    "a trace of another model": (_of_another_model, "of two passes: model is None in the truth"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_is_said_in_one_line(traced: Path, case: str, capsys: Any) -> None:
    spoil, message = BAD[case]
    spoil(traced)
    assert main(["compare", str(traced / "truth"), str(traced / "x")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert message in printed.err, printed.err


def test_a_map_to_what_is_not_there_is_refused(traced: Path, capsys: Any) -> None:
    npy(traced / "x", fc=truth().arrays["float32"]["head"])
    for text, message in (
        ("head = fx", "the map names what is not there: head = fx; ours is left of ="),
        ("hed = fc", "the map names what is not there: hed = fc"),
    ):
        (traced / "map").write_text(text)
        options = ["--names", str(traced / "map")]
        assert main(["compare", str(traced / "truth"), str(traced / "x"), *options]) == 2
        assert message in capsys.readouterr().err
    (traced / "map").write_text("head = fc")
    assert main(["compare", str(traced / "truth"), str(traced / "x"), *options]) == 0
    assert main(["compare", str(traced / "truth"), str(traced / "x"), "--names", "no"]) == 2
    assert "the map no cannot be read" in capsys.readouterr().err


def test_another_dtype_of_a_trace_is_chosen_or_refused(traced: Path, capsys: Any) -> None:
    t = str(traced / "truth")
    assert main(["compare", t, t, "--dtype", "float64", "--all"]) == 0
    assert " equal\n" in capsys.readouterr().out
    assert main(["compare", t, t, "--dtype", "float16"]) == 2
    assert "holds float64, float32, not float16" in capsys.readouterr().err
    npy(traced / "x", head=truth().arrays["float32"]["head"])
    assert main(["compare", t, str(traced / "x"), "--dtype", "float32"]) == 2
    assert "chooses among the arrays of a trace" in capsys.readouterr().err


def test_a_trace_without_the_steps_of_the_optimizer_is_compared(traced: Path) -> None:
    other = folder.read(traced / "truth")
    del other.header["optimizer"]
    folder.write(other, traced / "x")
    assert main(["compare", str(traced / "truth"), str(traced / "x")]) == 0


def test_where_the_truth_is_no_number_nothing_is_right() -> None:
    found = folder.Trace(truth().header, dict(truth().steps), {})
    found.arrays["float64"] = {
        **truth().arrays["float64"],
        "cotangent/norm.bias": np.full(24, np.nan),
    }
    theirs = {"head": truth().arrays["float32"]["head"], "cotangent/norm.bias": np.ones(24, "f4")}
    assert first(compare(found, theirs)).name == "cotangent/norm.bias"

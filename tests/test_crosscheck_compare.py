"""The first wrong tensor is found, where it is wrong, and nothing that is right is blamed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score
from compared import FINE, first, theirs, truth

from minswin.cli import main
from minswin.crosscheck import folder, recipe
from minswin.crosscheck.compare import compare
from minswin.crosscheck.edits.classics import classics, planted
from minswin.crosscheck.observations import describe
from minswin.crosscheck.trace import record_pass, trace
from minswin.models import create_model

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


def test_what_a_model_gives_is_judged_and_not_its_last_layer_alone() -> None:
    arrays = theirs()
    logits = truth().steps["loss"].inputs[0]
    arrays["output"] = arrays[logits].copy()
    assert compare(truth(), arrays).passed
    powers = np.exp(arrays[logits])
    arrays["output"] = powers / powers.sum(1, keepdims=True)  # probabilities
    wrong = compare(truth(), arrays).first
    assert wrong is not None and (wrong.name, wrong.theirs) == (logits, "output")
    assert compare(truth(), arrays, {"-": "output"}).passed  # the map leaves it out


def test_a_guessed_tensor_is_not_wrong_where_the_logits_are_right() -> None:
    """A layer of theirs has our weights, and gives twice as much; where logits are wrong it is."""
    logits, layer = truth().logits, "layers.0.blocks.0.attn.qkv"
    parameters = [n for n, step in truth().steps.items() if step.op == "parameter"]
    arrays = {f"own.{n}": theirs()[n] for n in parameters}
    arrays |= {f"own.{layer}": theirs()[layer] * 2, "output": theirs()[logits]}
    found = compare(truth(), arrays)
    assert found.passed and layer not in found.aligned, first(found)
    found = compare(truth(), {**arrays, "output": theirs()[logits] + 1})
    assert first(found).name == layer, first(found)


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


def places(name: str, *index: int, steps: Any = None) -> str:
    steps = truth().steps if steps is None else steps
    return describe(steps[name], index, steps)


def test_tokens_of_the_padding_are_called_so() -> None:
    """The map of 14×9 stands in one of 16×12; the last window is at its lower right end."""
    block = "layers.0.blocks.0.attn."
    assert places(block + "padded", 0, 14, 3, 1).endswith("; image coordinates padding")
    assert places(block + "padded", 0, 13, 8, 1).endswith("(rows 26…27, columns 16…17)")
    assert places(block + "windows", 2, 11, 15, 0).endswith("; image coordinates padding")
    told = places(block + "scores", 0, 11, 0, 0, 15)
    assert told.endswith("(rows 24…25, columns 16…17) ↔ padding")
    assert places("layers.0.downsample.padded", 0, 5, 9, 0).endswith("padding")
    assert places(block + "qkv", 2, 14, 3, 1).endswith("; image coordinates padding")


@cache
def steps_of(name: str, **settings: Any) -> Any:
    model = build(name, settings)(np.float32).eval()
    images = recipe.images(1, 3, model.img_size, np.float32)
    return record_pass(model, images, recipe.labels(1, 5), grad=False).steps


def test_windows_without_a_shift_are_told_too() -> None:
    told = places("blocks.0.0.attn.q", 0, 5, 1, 6, 3, steps=steps_of("twins_cifar"))
    assert told.startswith("image 0, window (1, 1), head 1, token (1, 2)")


@pytest.mark.parametrize("stem", ["overlapping", "convolutions"])
def test_a_token_has_the_pixels_of_all_strides_of_the_stem(stem: str) -> None:
    small = {"embed_dim": 6, "depths": (1,), "num_heads": (2,), "window_size": 2}
    steps = steps_of("swin_shapes", **small, img_size=16, patch_size=4, stem=stem)
    told = places("layers.0.blocks.0.norm1", 0, 1, 2, 3, steps=steps)
    assert told.endswith("(rows 4…7, columns 8…11)")


def test_behind_a_merge_a_token_is_twice_as_many_pixels_and_ends_with_the_image() -> None:
    merged = places("layers.0.downsample.neighbours", 0, 6, 4, 0)
    assert merged.endswith("(rows 24…27, columns 16…17)")  # 18 columns, of which the last two
    assert places("layers.1.blocks.0.norm1", 0, 1, 2, 3).endswith("(rows 4…7, columns 8…11)")
    assert places("norm", 0, 1, 2, 3).endswith("(rows 4…7, columns 8…11)")


def test_rolls_are_undone_in_image_coordinates() -> None:
    told = places("layers.0.blocks.1.attn.shifted", 0, 15, 11, 2)  # came from (1, 1)
    assert "rolled row 15, column 11" in told and told.endswith("(rows 2…3, columns 2…3)")


def with_fault(name: str) -> dict[str, np.ndarray]:
    fault = next(f for f in classics() if f.name == name)
    with planted(fault):
        return dict(score.run("trained", ("float32",)).arrays["float32"])


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

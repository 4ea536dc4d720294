"""A right port of the original structure is called right: no map, whatever its names."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from minswin.crosscheck import recipe
from minswin.crosscheck.compare import GOOD, compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.folder import Trace
from minswin.crosscheck.layouts import NOTE
from minswin.crosscheck.precision import BFLOAT16, FLOAT16, SINGLE, Precision
from minswin.crosscheck.results import data_of, report
from minswin.crosscheck.trace import trace
from minswin.models import create_model
from tests.official import official

SETTINGS: dict[str, Any] = {
    "img_size": (32, 48), "patch_size": 2, "embed_dim": 20, "depths": (2, 1), "num_heads": (2, 4),
    "window_size": 4, "num_classes": 7,
}  # fmt: skip
IMAGES = recipe.images(3, 3, SETTINGS["img_size"], np.float32)
HALVES = pytest.mark.parametrize("kind", [FLOAT16, BFLOAT16], ids=lambda k: k.name)
PRECISIONS = pytest.mark.parametrize("kind", [SINGLE, FLOAT16, BFLOAT16], ids=lambda k: k.name)


def build(dtype: Any) -> Any:
    return create_model("swin_tiny", **SETTINGS, rng=np.random.default_rng(0), dtype=dtype)


@cache
def truth() -> Trace:
    return trace(build, IMAGES, recipe.labels(3, 7), grad=False)


@cache
def port(kind: Precision, mistake: str = "") -> dict[str, np.ndarray]:
    state = recipe.weights(build(np.float32).state_dict(), np.float32)
    return official(state, SETTINGS, IMAGES, rounded=kind.round, mistake=mistake)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        pytest.param(
            kind, named,
            id=f"{'original names' if named else 'no names'}-{kind.name}",
            marks=[pytest.mark.long] * ((kind, named) in ((FLOAT16, False), (BFLOAT16, True))),
        )
        for kind, named in product((SINGLE, FLOAT16, BFLOAT16), (True, False))
    ],
)  # fmt: skip
def test_a_port_of_the_original_structure_is_right(kind: Precision, named: bool) -> None:
    theirs = port(kind)
    theirs = theirs if named else {f"t{i}": x for i, x in enumerate(theirs.values())}
    found = compare(truth(), theirs)
    assert found.passed, (found.first, found.unknown)
    judged = {f.name for f in found.findings if f.verdict in GOOD}
    wanted = ("norm1", "qkv", "probabilities", "proj", "fc1", "gelu", "fc2", "output")
    for name in (n for n in truth().steps if n.startswith("layers") and n.endswith(wanted)):
        assert name in judged or name.replace("qkv", "windows") in judged, name
    assert {"patch_embed.norm", "norm", "head"} <= judged


def test_windows_are_put_together_and_said_to_be() -> None:
    found = compare(truth(), port(SINGLE))
    notes = {f.name: f.note for f in found.findings}
    for name in ("layers.0.blocks.0.attn.qkv", "layers.0.blocks.1.attn.proj"):
        assert notes[name] == NOTE


def test_windows_of_a_wrong_layer_are_put_together_as_its_right_tensors_are() -> None:
    theirs = {**port(SINGLE)}
    theirs["layers.0.blocks.1.attn.proj"] = theirs["layers.0.blocks.1.attn.proj"] * 1.1
    theirs = {n: x for n, x in theirs.items() if n != "layers.0.blocks.1.attn"}
    first = compare(truth(), theirs).first
    assert first is not None and first.name == "layers.0.blocks.1.attn.proj"
    assert first.verdict == "wrong" and first.note == NOTE


def test_a_tensor_that_ours_have_not_does_no_harm_where_all_behind_it_is_accounted_for() -> None:
    kept = {n: x for n, x in port(SINGLE).items() if n not in ("avgpool", "head", "output", "norm")}
    merged = {"layers.1.downsample.norm": np.ones((3, 24, 160), np.float32)}  # merged once more
    assert compare(truth(), {**kept, **merged}).passed
    found = compare(truth(), {**kept, "t.norm": np.ones((3, 96, 40), np.float32)})
    assert found.first is None and found.unknown == ["t.norm"]


# ── half precision ───────────────────────────────────────────────────────────────────────────────

ONE = {**SETTINGS, "img_size": (16, 24), "depths": (2,), "num_heads": (2,)}
MISTAKES = {"eps": "ε of the layer norm is 0.001", "no bias": "no relative position bias",
            "relu": "relu"}  # fmt: skip


def small_images() -> np.ndarray:
    return recipe.images(3, 3, ONE["img_size"], np.float32)


@cache
def small_truth() -> Trace:
    return trace(small, small_images(), recipe.labels(3, 7), grad=False)


def small(dtype: Any) -> Any:
    return create_model("swin_tiny", **ONE, rng=np.random.default_rng(0), dtype=dtype)


@cache
def small_port(kind: Precision, mistake: str = "") -> dict[str, np.ndarray]:
    state = recipe.weights(small(np.float32).state_dict(), np.float32)
    return official(state, ONE, small_images(), rounded=kind.round, mistake=mistake)


@PRECISIONS
def test_a_gradient_is_never_taken_for_a_weight(kind: Precision) -> None:
    gradient = np.random.default_rng(0).standard_normal((7, 20)).astype(np.float32)
    images, head = small_images(), small_port(kind)["head"]
    for name in ("grad/head", "t.fc.weight"):
        given = {"image": images, "t.head": head, name: gradient}
        found = compare(small_truth(), given, seconds=0)  # what the logits may hide: tests below
        assert found.first is None and found.unused == [name]


@pytest.mark.parametrize(
    ("kind", "mistake"),
    [
        pytest.param(
            kind, mistake,
            id=f"{kind.name}-{mistake}",
            marks=[pytest.mark.long] * ((kind is FLOAT16) == (mistake == "relu")),
        )
        for kind, mistake in product((FLOAT16, BFLOAT16), MISTAKES)
    ],
)  # fmt: skip
def test_half_precision_does_not_hide_a_mistake(kind: Precision, mistake: str) -> None:
    """All of it is within the limits of half precision, or near them."""
    found = compare(small_truth(), small_port(kind, mistake))
    assert not found.passed and found.first is not None
    told = diagnose(small_truth(), found)
    assert told is not None
    assert any(MISTAKES[mistake] in f"{c.name} {c.diff}" for c in told.causes), told.causes


def filed(kind: Precision, mistake: str = "") -> dict[str, np.ndarray]:
    """Of a port in float32 whose file alone is in half precision."""
    every = small_port(SINGLE, mistake)
    return {n: kind.round(x).astype("f4") for n, x in every.items()}


@HALVES
def test_a_port_whose_file_alone_is_in_half_precision_is_right(kind: Precision) -> None:
    """What a step had in front of it is not what stands in the file."""
    theirs = filed(kind)
    found = compare(small_truth(), theirs)
    assert found.passed and found.doubts is not None, found.first
    assert max(found.doubts.sizes.values()) < 1.01  # of one rounding


def test_so_is_one_of_whose_tensors_some_alone_are_in_half_precision() -> None:
    theirs = small_port(SINGLE)
    for name in ("patch_embed.norm", "layers.0.blocks.1.mlp.fc1"):
        theirs = {**theirs, name: theirs[name].astype("f2")}
        found = compare(small_truth(), theirs)
        assert found.passed, found.first


@HALVES
@pytest.mark.parametrize("mistake", ["eps", "relu"])
def test_a_mistake_shows_in_such_a_file_as_in_float32(kind: Precision, mistake: str) -> None:
    found = compare(small_truth(), filed(kind, mistake))
    single = compare(small_truth(), small_port(SINGLE, mistake)).first
    assert found.first is not None and single is not None and found.first.name == single.name
    told = diagnose(small_truth(), found)
    assert told is not None
    assert any(MISTAKES[mistake] in f"{c.name} {c.diff}" for c in told.causes), told.causes


@HALVES
def test_what_half_precision_cannot_tell_is_said(kind: Precision) -> None:
    found = compare(small_truth(), small_port(kind))
    assert found.passed and found.doubts is not None
    assert max(found.doubts.sizes.values()) < 1.2  # rounding by chance is larger by √2
    hidden = {h.edit.words for h in found.doubts.alike}
    assert "ε of the layer norm is 1e-06, the default of ViT and Flax" in hidden
    assert not {"GELU is x · sigmoid(1.702 x)", "q kᵀ is not scaled"} & hidden
    text = report(data_of(small_truth(), found, None))
    assert "right cannot be told apart from:" in text and "1e-06" in text
    assert "less than about twice what rounding does" in text


def test_time_that_ran_out_is_no_verdict() -> None:
    found = compare(small_truth(), small_port(BFLOAT16), seconds=0)
    assert found.first is None and not found.passed
    assert "Undecided: the time ran out" in report(data_of(small_truth(), found, None))


def test_errors_that_add_up_unseen_are_not_called_right() -> None:
    found = compare(small_truth(), small_port(SINGLE))
    assert found.passed
    found.findings[-2].verdict = "follows"
    assert not found.passed and found.drifted == [found.findings[-2]]
    assert "add up to more than" in report(data_of(small_truth(), found, None))

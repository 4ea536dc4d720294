"""The engine of the page is a port like any other: judged by our own kit, in Node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_node import ENGINE, Job, needs_node, run_engine
from tiny_models import TINY, tiny_model

from minswin import cli, kernels
from minswin.autograd import no_grad
from minswin.look.page.weights import settings_of, weights_as_text
from minswin.models import create_model
from minswin.training.checkpoints import DEFAULT, load_trained_model, pretrained

pytestmark = needs_node

FORWARD = [
    *("window_partition/", "window_merge/", "roll/", "patch_merge/", "attention_mask"),
    *("relative_position_index", "relative_position_bias/", "layer_norm/", "gelu/", "softmax/"),
    *("mlp/", "patch_embed/", "patch_merging/", "window_attention/", "block/"),
    *("model/", "build_model"),
]


# ── minswin conform ──────────────────────────────────────────────────────────────────────────────


def arguments_of(probe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a probe asks with: its settings, and its arrays from their files."""

    def read(name: str, described: Any) -> Any:
        if set(described) == {"value"}:
            return described["value"]
        if set(described) == {"shape", "dtype"}:
            return np.load(folder / "probes" / probe["name"] / f"{name}.npy")
        return {inner: read(inner, value) for inner, value in described.items()}

    arguments = {name: read(name, value) for name, value in probe["arguments"].items()}
    if "images" in arguments:
        arguments["images"] = list(arguments["images"].values())
    return arguments


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("probes") / "pack"
    assert cli.main(["conform", "--write", str(folder), "--only", *FORWARD]) == 0
    return folder, json.loads((folder / "manifest.json").read_text("utf-8"))["probes"]


def conforms(
    probes: Any, answers: Path, engine: Path = ENGINE, only: Sequence[str] = FORWARD
) -> int:
    """Write the engine's answers to the probes of these functions, and let the kit judge them."""
    pack, listed = probes
    listed = [probe for probe in listed if probe["name"].startswith(tuple(only))]
    jobs = [(p["name"].split("/")[0], arguments_of(p, pack)) for p in listed]
    for probe, answer in zip(listed, run_engine(jobs, engine), strict=True):
        arrays = answer if isinstance(answer, dict) else {"y": answer}
        (answers / probe["name"]).mkdir(parents=True)
        for name, array in zip(probe["outputs"], arrays.values(), strict=True):
            np.save(answers / probe["name"] / f"{name}.npy", array)
    return cli.main(["conform", "--files", str(answers), "--only", *only])


def test_the_kit_finds_nothing_wrong_with_the_engine(probes, tmp_path, capsys) -> None:
    assert conforms(probes, tmp_path / "answers") == 0
    count = len(probes[1])
    assert count > 60
    assert f"{count} probes: {count} passed, 0 differ, 0 refused, 0" in capsys.readouterr().out


# What a port gets wrong: whose probes find it, the right line of the engine, and a wrong one.
FAULTS = {
    "the shift goes the wrong way": (
        "window_attention/",
        "roll(qkv, shift.map((s) => -s))",
        "roll(qkv, shift.map((s) => +s))",
    ),
    "the neighbours are merged row by row": (
        "patch_merge/",
        "[[0, 0], [1, 0], [0, 1], [1, 1]]",
        "[[0, 0], [0, 1], [1, 0], [1, 1]]",
    ),
    "the index counts with the height of the window": (
        "relative_position_index/",
        "(rowsApart + Mh - 1) * (2 * Mw - 1)",
        "(rowsApart + Mh - 1) * (2 * Mh - 1)",
    ),
    "the displacement is key minus query": (
        "relative_position_index/",
        "Math.floor(p / window[1]) - Math.floor(q / window[1])",
        "Math.floor(q / window[1]) - Math.floor(p / window[1])",
    ),
    "the regions end at the shift, not before it": (
        "attention_mask/",
        "i < n - s ? 1 : 2",
        "i < n - M + s ? 1 : 2",
    ),
    "there is no mask": ("attention_mask/", "own === region[first + q] ? 0 : -100", "0"),
    "a covered map is shifted too": ("block/", "if (H > Mh && W > Mw)", "if (H >= Mh && W >= Mw)"),
    "the variance divides by C − 1": ("layer_norm/", "- mu) ** 2 / C;", "- mu) ** 2 / (C - 1);"),
    "GELU by tanh": (
        "gelu/",
        "(value * (1 + erf(value * Math.SQRT1_2))) / 2",
        "(value * (1 + Math.tanh(0.7978845608 * (value + 0.044715 * value ** 3)))) / 2",
    ),
    "the scale is d": (
        "window_attention/",
        "(first + j) * d, d) / Math.sqrt(d)",
        "(first + j) * d, d) / d",
    ),
    "k and v are exchanged": (
        "window_attention/",
        "which * C + h * d",
        "((3 - which) % 3) * C + h * d",
    ),
    "the padding is left to the roll": (
        "window_attention/",
        "if (padded) x = yield* show(at + \"padded\", pad(x, window));",
        "x = yield* show(at + \"padded\", roll(pad(x, window), [padded ? 1 : 0, 0]));",
    ),
    "the zeros of an odd map come first": (
        "patch_merging/",
        'show(at + "padded", pad(x, [2, 2]))',
        'show(at + "padded", roll(pad(x, [2, 2]), [x.shape[0] % 2, x.shape[1] % 2]))',
    ),
    "the mean comes before the norm": (
        "model/",
        'layerNorm(x, weights, "norm", 1e-5)); // every',
        'layerNorm(mean(x), weights, "norm", 1e-5)); // every',
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, probes, tmp_path) -> None:
    function, right, wrong = FAULTS[fault]
    source = ENGINE.read_text("utf-8")
    assert source.count(right) == 1
    broken = tmp_path / "engine.js"
    broken.write_text(source.replace(right, wrong), "utf-8")
    assert conforms(probes, tmp_path / "answers", broken, [function]) == 1


# ── minswin compare ──────────────────────────────────────────────────────────────────────────────

AWKWARD = {"img_size": (30, 44), "patch_size": 2, "num_classes": 5}
TRACED = {
    "a padded Swin of two stages": (
        "swin_tiny",
        {**AWKWARD, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "window_size": 4},
    ),
    "windows of 3×2": (
        "swin_tiny",
        {**AWKWARD, "embed_dim": 6, "depths": (2,), "num_heads": (3,), "window_size": (3, 2)},
    ),
    "absolute positions, no norm of the patches, no bias of qkv": (
        "swin_tiny",
        {
            **AWKWARD,
            "embed_dim": 6,
            "depths": (2, 1),
            "num_heads": (1, 2),
            "window_size": 5,
            "ape": True,
            "patch_norm": False,
            "qkv_bias": False,
        },
    ),
    "convolutions before the tokens": (
        "swin_tiny",
        {
            **AWKWARD,
            "embed_dim": 6,
            "depths": (1,),
            "num_heads": (2,),
            "window_size": 4,
            "stem": "convolutions",
            "stem_depth": 1,
        },
    ),
    "a ViT": (
        "vit_cifar",
        {"img_size": (8, 12), "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3},
    ),
}
NAMES_IN_VIT = {"residual": "add", "output": "add_1"}


@pytest.mark.parametrize("case", TRACED)
def test_every_step_of_the_engine_is_that_of_our_trace(case, tmp_path, capsys) -> None:
    name, settings = TRACED[case]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    changes = [f"--set={key}={value!r}" for key, value in settings.items()]
    command = ["trace", "--model", name, *changes, "--no-grad", "--float32", "--form", "npy"]
    assert cli.main([*command, "-o", str(ours)]) == 0
    arrays = {f.stem: np.load(f) for f in (ours / "float32").glob("*.npy")}
    model = create_model(name, **settings)
    weights = {key: arrays[key] for key in model.state_dict()}
    question = {"settings": settings_of(model), "weights": weights, "batch": arrays["image"]}
    (steps,) = run_engine([("steps", {**question, "options": {}})])
    theirs.mkdir()
    for step, array in steps.items():
        *before, last = step.split(".")
        renamed = NAMES_IN_VIT.get(last, last) if before[:1] == ["blocks"] else last
        alike = array[0] if last in ("bias", "mask") else array  # the same for every image
        np.save(theirs / ".".join([*before, f"{renamed}.npy"]), alike)
    assert cli.main(["compare", str(ours), str(theirs)]) == 0
    assert len(steps) > 30 and "wrong" not in capsys.readouterr().out


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


def reference(model: Any, images: np.ndarray) -> np.ndarray:
    with no_grad(), kernels.using("reference"):
        return model.eval()(images).data


def asked(model: Any, images: np.ndarray, **options: Any) -> Job:
    """The question for the logits of a model with these options."""
    weights = {name: array.astype(np.float32) for name, array in model.state_dict().items()}
    question = {"settings": settings_of(model), "weights": weights, "batch": images}
    return "logits", {**question, "options": options}


SWIN, VIT = TINY["swin_shapes"], TINY["vit_cifar"]
MODELS = {
    **{f"swin {k}": ("swin_shapes", v) for k, v in {
        "tiny": {},
        "of three stages": {"img_size": 32, "depths": (1, 2, 2), "num_heads": (1, 2, 3)},
        "windows of 1×3": {"window_size": (1, 3), "depths": (2, 2), "num_heads": (2, 4)},
        "whose maps are odd": {"img_size": (14, 26), "depths": (2, 2, 2), "num_heads": (2, 2, 2)},
        "whose windows cover the map": {"window_size": 7, "depths": (2, 2), "num_heads": (2, 2)},
        "overlapping patches": {"stem": "overlapping"},
        "convolutions, without shift or bias": {
            "stem": "convolutions", "shift": False, "relative_bias": False,
        },
        "convolutions of two strides": {
            "stem": "convolutions", "stem_depth": 1, "patch_size": 4, "img_size": (16, 24),
        },
    }.items()},
    **{f"vit with {k}": ("vit_cifar", v) for k, v in {
        "relative positions": {},
        "learned positions": {"positions": "learned"},
        "a vector for rows and columns": {"positions": "learned_2d"},
        "waves": {"positions": "sinusoidal", "embed_dim": 8},
        "the mean of its tokens": {"positions": "none", "global_pool": "avg"},
        "a representation": {"representation_size": 7, "positions": "learned"},
        "overlapping patches": {"stem": "overlapping"},
        "convolutions": {"stem": "convolutions"},
        "many convolutions": {"stem": "convolutions", "stem_depth": 2},
    }.items()},
    "deit with two heads": ("deit_cifar_distilled", {**VIT, "positions": "learned"}),
}  # fmt: skip


def model_of(case: str) -> tuple[Any, np.ndarray]:
    """A model whose weights float32 can hold, in float64, and two images."""
    name, settings = MODELS[case]
    if name in TINY:
        model = tiny_model(name, dtype=np.float64, **settings)
    else:
        model = create_model(name, rng=np.random.default_rng(1), dtype=np.float64, **settings)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float32).astype(np.float64)
    size = model.img_size
    return model, np.random.default_rng(5).standard_normal((2, 3, *size)).astype(np.float32)


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    """Of all models, from one process: to start one takes longer than an answer."""
    return dict(zip(MODELS, run_engine([asked(*model_of(c)) for c in MODELS]), strict=True))


@pytest.mark.parametrize("case", MODELS)
def test_the_answer_is_that_of_the_reference(case, answers) -> None:
    model, x = model_of(case)
    assert abs(answers[case] - reference(model, x.astype(np.float64))).max() < 1e-5


@pytest.mark.parametrize("name", sorted(pretrained()))
def test_the_answer_of_packaged_weights_survives_their_way_into_the_page(name) -> None:
    model, _ = load_trained_model(pretrained()[name])
    x = np.random.default_rng(6).standard_normal((2, 3, *model.img_size)).astype(np.float32)
    file = weights_as_text(model)
    weights, logits = run_engine([("load", {"file": file}), asked(model, x)])
    state = model.state_dict()
    assert set(weights) == set(state)
    for key, array in weights.items():
        assert np.array_equal(array, state[key].astype(np.float16).astype(np.float32)), key
    assert abs(logits - reference(model, x)).max() < 1e-5


def test_all_finite_numbers_of_float16_are_read() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    numbers = bits[np.isfinite(bits)]
    model = create_model("swin_shapes", **SWIN)
    model.head.weight.data = numbers.astype(np.float32).reshape(2, -1)
    (weights,) = run_engine([("load", {"file": weights_as_text(model)})])
    assert np.array_equal(weights["head.weight"].ravel(), numbers.astype(np.float32))


# ── switches ─────────────────────────────────────────────────────────────────────────────────────


def attentions(model: Any) -> list[Any]:
    return [block.attn for stage in model.layers for block in stage.blocks]


def shift_by(rows: int):
    """Shift every second block by another number of tokens than half a window."""

    def change(model, monkeypatch):
        for layer in attentions(model):
            call = type(layer).shifted_windows

            def shifted(qkv, window, shift, layer=layer, call=call):
                shift = tuple(min(rows, M - 1) for M in window) if any(shift) else shift
                return call(layer, qkv, window, shift)

            layer.shifted_windows = shifted

    return change


def no_mask(model, monkeypatch):
    from minswin import composites

    monkeypatch.setattr(composites, "attention_mask", composites.attention_mask.__wrapped__)
    mask = composites.attention_mask
    monkeypatch.setattr(composites, "attention_mask", lambda *geometry: 0 * mask(*geometry))


def no_bias(model, monkeypatch):
    for layer in attentions(model):
        layer.relative_position_bias_table.data[:] = 0


def temperature(model, monkeypatch):
    """Logits over 2: halve q and the bias. A masked key has no share, of e⁻⁵⁰ or of e⁻¹⁰⁰."""
    for layer in attentions(model):
        C = layer.qkv.weight.shape[1]
        for values in (layer.qkv.weight.data, layer.qkv.bias.data):
            values[:C] *= 0.5
        layer.relative_position_bias_table.data *= 0.5


def head_off(model, monkeypatch):
    layer = model.layers[1].blocks[1].attn
    C, d = layer.qkv.weight.shape[1], layer.qkv.weight.shape[1] // layer.heads
    for values in (layer.qkv.weight.data, layer.qkv.bias.data):
        values[2 * C + 2 * d : 2 * C + 3 * d] = 0  # v of head 2


SWITCHES = {
    "no shift": ({"shift": 0}, shift_by(0)),
    "shift 1": ({"shift": 1}, shift_by(1)),
    "shift 3": ({"shift": 3}, shift_by(3)),
    "no mask": ({"mask": False}, no_mask),
    "no bias": ({"bias": False}, no_bias),
    "temperature 2": ({"temperature": 2}, temperature),
    "a head off": ({"off": {"layers.1.blocks.1.attn.": [2]}}, head_off),
}


def packaged() -> tuple[Any, np.ndarray]:
    model, _ = load_trained_model(DEFAULT)
    return model, np.random.default_rng(7).standard_normal((1, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def switched() -> dict[str, np.ndarray]:
    """The answers of the packaged model with each switch, from one process."""
    model, x = packaged()
    jobs = [asked(model, x, **options) for options, _ in SWITCHES.values()]
    return dict(zip(SWITCHES, run_engine(jobs), strict=True))


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_the_answer_as_the_same_change_of_the_reference(
    switch, switched, monkeypatch
):
    model, x = packaged()
    before = reference(model, x)
    SWITCHES[switch][1](model, monkeypatch)
    want = reference(model, x)
    assert abs(switched[switch] - want).max() < 1e-5 < 1e-3 < abs(want - before).max()

"""A trace tells every step of a pass and changes none; its files come back bit for bit."""

from __future__ import annotations

import ast
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score
from tiny_models import batch, tiny_model

from minswin import composites, kernels, ops
from minswin.around import around
from minswin.autograd import Tensor
from minswin.cli import main
from minswin.crosscheck import commands, folder, recipe
from minswin.crosscheck.compare import compare
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.held import follow
from minswin.crosscheck.layouts import windows_of
from minswin.crosscheck.observations import describe
from minswin.crosscheck.precision import DOUBLE
from minswin.crosscheck.recording import GIVEN, Recording
from minswin.crosscheck.trace import loss, record_pass, trace
from minswin.layers import Layer, WindowAttention
from minswin.models import create_model
from minswin.weights import read_weights, save_weights

ROOT = Path(commands.__file__).parents[2]
SMALL = {"embed_dim": 6, "depths": (2, 1), "num_heads": (2, 3), "patch_size": 2, "num_classes": 5}


def small(dtype: Any, **settings: Any) -> Any:
    """A small Swin with the weights of the recipe."""
    own = {**SMALL, **settings}
    model = create_model("swin_tiny", **own, rng=np.random.default_rng(0), dtype=dtype).eval()
    model.load_state_dict(recipe.weights(model.state_dict()))
    return model


def recorded(dtype: Any = np.float64, batch: int = 3, **settings: Any) -> Any:
    """The recording of a small Swin on the recipe's images."""
    model = small(dtype, **settings)
    x = recipe.images(batch, 3, model.img_size, dtype)
    with kernels.using("reference"):
        return record_pass(model, x, recipe.labels(batch, 5))


# ── it changes nothing ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_recording_changes_no_bit_of_forward_and_gradients(backend: str) -> None:
    model, (x, labels) = tiny_model(), batch(3)

    def run() -> list[np.ndarray]:
        model.zero_grad()
        result = loss(model, Tensor(x), labels)
        result.backward()
        return [result.data, *(p.grad for p in model.parameters())]

    with kernels.using(backend):
        plain = run()
        with around(record := Recording(model)):
            watched = run()
        after = run()
    assert len(record.steps) > len(model.state_dict())
    for a, b, c in zip(plain, watched, after, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)


def test_explaining_attention_changes_rounding_alone() -> None:
    model, (x, labels) = tiny_model(), batch(3)
    with kernels.using("reference"):
        with around(record := Recording(model)):
            loss(model, Tensor(x), labels).backward()
        plain, told = record.steps, record_pass(model, x, labels).steps
    assert "layers.0.blocks.0.attn.logits" in told and told.keys() > plain.keys()
    for name, step in plain.items():
        np.testing.assert_allclose(told[name].value, step.value, rtol=1e-12, atol=1e-14)
        if step.cotangent is not None:
            np.testing.assert_allclose(told[name].cotangent, step.cotangent, rtol=1e-9, atol=1e-14)


# ── what a step tells ────────────────────────────────────────────────────────────────────────────


def test_every_step_of_swin_has_axes_a_formula_and_a_line_of_its_file() -> None:
    steps = score.truth("square").steps
    assert len(steps) > 150
    for step in steps.values():
        if step.op == "parameter":
            continue
        assert len(step.axes) == step.value.ndim, step.name
        if step.op == "input":
            continue
        assert step.formula and step.formula != step.op, step.name
        file, number = step.line.rsplit(":", 1)
        line = (ROOT / file).read_text("utf-8").splitlines()[int(number) - 1]
        assert step.code and line.strip() == step.code, step.name


@pytest.mark.parametrize("model", ["swin_tiny", "swinv2_cifar"])
def test_what_lies_in_windows_knows_the_map_that_it_was_cut_from(model: str) -> None:
    tiny = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 6, "depths": (2,)}
    built = create_model(model, **tiny, num_heads=(2,), rng=np.random.default_rng(0))
    images = recipe.images(1, 3, (16, 16), np.float32)
    with kernels.using("reference"):
        steps = record_pass(built.eval(), images, recipe.labels(1, 5), grad=False).steps
    cut = [step for step in steps.values() if {"image", "window"} <= set(step.axes)]
    assert {"scores", "probabilities", "heads"} <= {step.kind for step in cut}
    for step in cut:
        windows = windows_of(steps)[step.name]
        assert (windows.grid, windows.window) == ((8, 8), (4, 4)), step.name
        where = describe(step, np.zeros(len(step.axes), int), steps)
        shifted = "rows 4…5" if any(windows.shift) else "rows 0…1"
        assert "window (0, 0)" in where and shifted in where, where


def with_other_variables(function: Any) -> Edit:
    """An edit that calls the variables of a function otherwise, but for its parameters."""
    text = Text(function)
    names = [n for n in ast.walk(text.tree) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    own -= {a.arg for n in ast.walk(text.tree) if isinstance(n, ast.arguments) for a in n.args}
    changes = [(*text.span(n), f"{n.id}_of_mine") for n in names if n.id in own]
    assert changes, text.name
    return Edit(text, changes, "other variables", 0)


def test_no_variable_of_a_text_is_known_by_its_name() -> None:
    cut = composites.shifted_window_attention.function
    texts = (WindowAttention.__call__, cut, composites.split_heads, composites.spelled_out.function)
    small = {"batch": 1, "img_size": (18, 10), "window_size": 4}
    right = recorded(**small).steps
    with ExitStack() as stack:
        for function in texts:
            stack.enter_context(with_other_variables(function).planted())
        renamed = recorded(**small).steps
    assert list(renamed) == list(right) and windows_of(renamed) == windows_of(right)
    for name, step in right.items():
        assert (step.inputs, step.axes) == (renamed[name].inputs, renamed[name].axes), name
        assert np.array_equal(step.value, renamed[name].value), name


class Inner(Layer):
    def __call__(me, x: Tensor) -> Tensor:
        return ops.relu(x)


class Outer(Layer):
    def __init__(self) -> None:
        self.inner = Inner()

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x).mean(axis=(2, 3))


def test_a_layer_is_known_whatever_its_method_calls_it() -> None:
    steps = record_pass(Outer(), np.ones((1, 3, 2, 2)), recipe.labels(1, 3)).steps
    assert [name for name, step in steps.items() if step.op not in GIVEN] == [
        "inner.relu", "mean", "loss",
    ]  # fmt: skip


CASES = {
    "divides": {"img_size": (32, 24), "window_size": 4, "batch": 2},
    "padded": {"img_size": (22, 18), "window_size": 4},
    "wide windows": {"img_size": (24, 34), "window_size": (3, 4)},
    "window as large as the map": {"img_size": (8, 12), "window_size": 4},
    "positions": {"img_size": (16, 24), "window_size": 3, "ape": True},
    "no bias of qkv": {"img_size": (16, 24), "window_size": 3, "qkv_bias": False},
}


@pytest.mark.parametrize("case", CASES)
def test_a_pass_on_its_own_tensors_gives_every_step_again(case: str) -> None:
    settings = {"batch": 3, **CASES[case]}
    images = recipe.images(settings.pop("batch"), 3, settings["img_size"])
    truth = trace(lambda dtype: small(dtype, **settings), images, recipe.labels(len(images), 5))
    arrays = {n: np.asarray(x) for n, x in truth.arrays["float64"].items()}
    found, _ = follow(truth, arrays, dict.fromkeys(arrays, DOUBLE), grad=True)
    made = {n for n, step in truth.steps.items() if step.op not in GIVEN}
    assert made <= found.keys() <= arrays.keys()
    for name, follows in found.items():
        off = np.max(np.abs(follows.value - arrays[name]), initial=0)
        assert off <= 1e-13 * max(np.abs(arrays[name]).max(), 1), name
    kinds = {step.kind for step in truth.steps.values()}
    assert {"scores", "probabilities", "neighbours", "loss", "index"} <= kinds
    assert ("mask" in kinds) == (case != "window as large as the map")


def test_the_cotangent_of_the_image_is_the_derivative_of_the_loss() -> None:
    """Along a random direction, by differences."""
    record = recorded(img_size=(22, 18), window_size=4)
    image, labels = record.steps["image"], record.steps["labels"].value
    model = small(np.float64, img_size=(22, 18), window_size=4)
    tangent = recipe.array("tangent", image.value.shape)

    def at(t: float) -> float:
        return loss(model, Tensor(image.value + t * tangent), labels).item()

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    assert np.sum(image.cotangent * tangent) == pytest.approx(slope, rel=1e-6)


OTHERS = {
    "vit_cifar": {"img_size": (8, 12), "patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 2},
    "deit_tiny_distilled": {"img_size": 32, "embed_dim": 12, "depth": 2, "num_heads": 3},
    "swinv2_cifar": {**SMALL, "img_size": (16, 24), "window_size": 4},
    "tnt_cifar": {"depth": 2},
    "resnet20": {},
}


@pytest.mark.parametrize("name", OTHERS)
def test_steps_of_other_models_have_names_of_their_own_and_finite_numbers(name: str) -> None:
    model = create_model(name, **OTHERS[name], rng=np.random.default_rng(0)).eval()
    x = recipe.images(2, 3, getattr(model, "img_size", (8, 8)), "f4")
    with kernels.using("reference"):
        record = record_pass(model, x, recipe.labels(2, 5))
    made = [s for s in record.steps.values() if s.op not in ("input", "parameter", "constant")]
    assert len(made) > 15
    for step in made:
        assert step.name and np.isfinite(step.value).all(), step.name
        assert step.cotangent is None or np.isfinite(step.cotangent).all(), step.name
    assert sum(s.cotangent is not None for s in made) > 0.8 * len(made)
    assert not [n for n in record.steps if n.startswith(".") or ".." in n]


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (
            (0, 3, 8, 8),
            (0,),
            r"image must hold one image or more, \(B, 3, H, W\), got \(0, 3, 8, 8\)",
        ),
        ((3, 8, 8), (3,), r"image must hold one image or more, \(B, 3, H, W\), got \(3, 8, 8\)"),
        ((2, 3, 8, 8), (3,), r"labels must be \(2,\), a class for each image, got \(3,\)"),
        ((2, 3, 8, 8), (2, 1), r"labels must be \(2,\), a class for each image, got \(2, 1\)"),
    ],
)
def test_a_batch_that_is_none_is_told_by_the_trace(images: Any, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"trace: {said}"):
        trace(small, np.zeros(images), np.zeros(labels, int))


def test_no_image_is_told_by_the_command_that_was_given_none(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 8, 12), np.float32))
    assert main(["trace", *TINY, "--input", str(tmp_path / "none.npy"), "-o", "t"]) == 2
    assert "must hold one floating-point image or more, (B, 3, H, W), got float32 (0, 3, 8" in (
        capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="trace: batch must be a positive int, got 0"):
        commands.run_trace("swin_shapes", tmp_path / "t", batch=0)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", folder.FORMS)
def test_a_trace_comes_back_bit_for_bit(tmp_path: Path, form: str) -> None:
    before = score.run("trained")
    folder.write(before, tmp_path / "t", form=form)
    after = folder.read(tmp_path / "t")
    assert after.header == {**before.header, "form": form}
    assert list(after.steps) == list(before.steps)
    for dtype, arrays in before.arrays.items():
        assert arrays.keys() == after.arrays[dtype].keys()
        for name, x in arrays.items():
            y = after.arrays[dtype][name]
            assert (y.dtype, y.shape) == (x.dtype, x.shape) and x.tobytes() == y.tobytes(), name
    for a, b in zip(before.steps.values(), after.steps.values(), strict=True):
        words = ("kind", "op", "inputs", "axes", "formula", "line", "settings")
        assert [getattr(a, w) for w in words] == [getattr(b, w) for w in words]


def test_a_write_that_is_interrupted_leaves_the_old_trace(tmp_path: Path, monkeypatch: Any) -> None:
    found, out = score.truth("square"), tmp_path / "t"
    folder.write(found, out)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write_arrays", stop)
    with pytest.raises(KeyboardInterrupt):
        folder.write(found, out)
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    assert folder.read(out).steps.keys() == found.steps.keys()


def test_only_a_trace_or_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    folder.write(score.truth("square"), tmp_path / "mine")
    folder.write(score.truth("square"), tmp_path / "mine", form="npz")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no trace; choose another folder"):
        folder.write(score.truth("square"), tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").read_text() == "years of work"


def test_a_manifest_of_another_program_makes_no_trace(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "my app", "format": "web"}')
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no trace; choose another folder"):
        folder.write(score.truth("square"), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("form", folder.FORMS)
@pytest.mark.parametrize("name", ["notes.txt", "float32/mine.npy", "port/head.npy"])
def test_a_trace_with_files_of_others_is_not_replaced(tmp_path: Path, form: str, name: str) -> None:
    out = tmp_path / "t"
    found = score.truth("square")
    small = folder.Trace(found.header, {"image": found.steps["image"]}, {})
    small.arrays["float32"] = {"image": found.arrays["float32"]["image"]}
    small.header = {**found.header, "dtypes": ["float32"]}
    folder.write(small, out, form=form)
    folder.write(small, out, form=form)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("years of work")
    with pytest.raises(FileExistsError, match=f"holds {name}, which no trace wrote"):
        folder.write(small, out, form=form)
    assert (out / name).read_text() == "years of work"


# ── the command ──────────────────────────────────────────────────────────────────────────────────

TINY = ["--model", "swin_shapes", "--set", "embed_dim=6", "--set", "depths=(1,)"]
TINY += ["--set", "num_heads=(2,)", "--set", "img_size=(8, 12)", "--set", "window_size=2"]


def test_float32_is_written_on_demand_and_its_errors_are_kept(tmp_path: Path) -> None:
    for name, more in (("less", []), ("more", ["--float32"])):
        assert main(["trace", *TINY, "--steps", "1", "-o", str(tmp_path / name), *more]) == 0
    less, more_ = folder.read(tmp_path / "less"), folder.read(tmp_path / "more")
    assert list(less.arrays) == ["float64"] and list(more_.arrays) == ["float64", "float32"]
    assert less.off == more_.off and len(less.off) > 50
    exact, single = more_.arrays["float64"]["head"], more_.arrays["float32"]["head"]
    assert less.off["head"] == float(np.abs(single.astype(np.float64) - exact).max()) > 0
    theirs = {n: np.array(x) for n, x in more_.arrays["float32"].items()}
    a, b = compare(less, theirs), compare(more_, theirs)
    assert a.passed and [f.limit for f in a.findings] == [f.limit for f in b.findings]


def test_weights_are_written_apart_by_the_names_of_others(tmp_path: Path, capsys: Any) -> None:
    out, given = tmp_path / "t", tmp_path / "map"
    given.write_text(
        "layers.{i}.blocks.{j}.attn.qkv.* = x.{j}.*\n"
        "layers.{i}.blocks.{j}.attn.* = s{i}.b{j}.attn.*\n"
    )
    command = ["trace", *TINY, "--no-grad", "-o", str(out), "--weights-to"]
    assert main([*command, str(given)]) == 2
    assert "does not say what" in capsys.readouterr().err
    given.write_text(f"{given.read_text()}* = net.*\n")
    assert main([*command, str(given)]) == 0
    state = {n: s.value for n, s in folder.read(out).steps.items() if s.op == "parameter"}
    found = read_weights(out / "weights.safetensors", prefixes=())
    assert {x.dtype for x in found.values()} == {np.dtype("f4")} and len(found) == len(state)
    np.testing.assert_array_equal(found["x.0.weight"], state["layers.0.blocks.0.attn.qkv.weight"])
    table = "attn.relative_position_bias_table"
    np.testing.assert_array_equal(found[f"s0.b0.{table}"], state[f"layers.0.blocks.0.{table}"])
    np.testing.assert_array_equal(found["net.head.bias"], state["head.bias"])
    assert main([*command, "transformers"]) == 0  # over the trace that is there
    assert "classifier.weight" in read_weights(out / "weights.safetensors", prefixes=())
    assert main([*command, "nobody"]) == 2
    assert "--weights-to is 'nobody', expected minswin, " in capsys.readouterr().err


def test_weights_of_what_the_model_is_built_without_are_zero_there(tmp_path: Path) -> None:
    command = ["trace", *TINY, "--set", "relative_bias=false", "--no-grad"]
    assert main([*command, "--weights-to", "minswin", "-o", str(tmp_path / "t")]) == 0
    given = read_weights(tmp_path / "t" / "weights.safetensors")
    tables = [name for name in given if name.endswith("relative_position_bias_table")]
    steps = folder.read(tmp_path / "t").steps
    assert tables and not any(given[n].any() or np.any(steps[n].value) for n in tables)


def test_a_table_of_names_is_printed_and_nothing_written(tmp_path: Path, capsys: Any) -> None:
    assert main(["trace", *TINY, "--names"]) == 0
    rows = capsys.readouterr().out.splitlines()
    logits = next(row for row in rows if row.startswith("layers.0.blocks.0.attn.logits"))
    assert logits.split()[1] == "1×2×2×4×4" and "window, head, query, key" in logits
    assert main(["trace", *TINY]) == 2
    assert "expected -o DIR, or --names" in capsys.readouterr().err


def test_a_trace_is_written_and_equals_itself(tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "t")
    assert main(["trace", *TINY, "--steps", "2", "-o", out]) == 0
    assert f"minswin compare {out} THEIRS" in capsys.readouterr().out
    header = folder.read(out).header
    assert header["model"] == "swin_shapes" and header["weights"] == "recipe"
    assert [len(x) for x in header["losses"].values()] == [3, 3]
    assert main(["compare", out, out]) == 0
    assert "No divergence" in capsys.readouterr().out


def test_images_of_ones_own_are_traced(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 12)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    main(
        ["trace", *TINY, "--input", str(tmp_path / "x.npy"), "--no-grad", "-o", str(tmp_path / "t")]
    )
    found = folder.read(tmp_path / "t")
    assert np.array_equal(found.steps["image"].value, x)
    assert not [n for n in found.arrays["float64"] if n.startswith("cotangent/")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "depths"], "trace: --set needs name=value with a Python value or a word, got"),
        (["--set", "depths=(2,"], "--set needs name=value with a Python value"),
        (
            ["--input", "labels.npy"],
            "must hold one floating-point image or more, (B, 3, H, W), got int64 (4,)",
        ),
        (["--input", "nothing.npy"], "nothing.npy"),
        (["--weights", "nothing.safetensors"], "nothing.safetensors"),
        (["--input", "several.npz"], "several.npz cannot be read (it is an .npz, which"),
        (["--input", "empty.npy"], "empty.npy cannot be read"),
        (["--input", "nan.npy"], "nan.npy holds 2 numbers that are NaN or infinite"),
        (["--weights", "nan.npz"], "nan.npz: head.bias holds 1 numbers that are NaN or infinite"),
        (["--steps", "-1"], "argument --steps: expected a whole number of 0 or more, got '-1'"),
        (["-o", "."], "trace: the folder . cannot be replaced; choose another with -o"),
        (["-o", "mine"], "mine exists and is no trace; choose another folder"),
    ],
)
def test_a_trace_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: Any, capsys: Any, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("labels.npy", np.arange(4))
    np.savez("several.npz", a=np.zeros((2, 3, 8, 12)))
    Path("empty.npy").write_bytes(b"")
    x = np.ones((2, 3, 8, 12))
    x[1, 2, 3, 4:6] = np.nan, np.inf
    np.save("nan.npy", x)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    if "nan.npz" in options:
        state = build_tiny().state_dict()
        state["head.bias"][3] = np.nan
        save_weights("nan.npz", state)
    monkeypatch.setattr(commands, "trace", None)  # refused before anything is computed
    try:
        status = main(["trace", *TINY, "-o", "t", *options])
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def build_tiny() -> Any:
    settings = {"embed_dim": 6, "depths": (1,), "num_heads": (2,), "img_size": (8, 12)}
    return create_model("swin_shapes", **settings, window_size=2, rng=np.random.default_rng(0))

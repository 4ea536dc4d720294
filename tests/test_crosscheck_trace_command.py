"""`minswin trace`: what it writes, prints and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minswin.cli import main
from minswin.crosscheck import commands, folder
from minswin.crosscheck.compare import compare
from minswin.models import create_model
from minswin.weights import read_weights, save_weights

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


def test_no_image_is_told_by_the_command_that_was_given_none(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 8, 12), np.float32))
    assert main(["trace", *TINY, "--input", str(tmp_path / "none.npy"), "-o", "t"]) == 2
    assert "must hold one floating-point image or more, (B, 3, H, W), got float32 (0, 3, 8" in (
        capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="trace: batch must be a positive int, got 0"):
        commands.run_trace("swin_shapes", tmp_path / "t", batch=0)

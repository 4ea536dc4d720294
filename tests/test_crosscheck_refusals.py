"""What cannot be compared is said in one line, as is a map or a dtype that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import truth

from minswin.cli import main
from minswin.crosscheck import folder


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

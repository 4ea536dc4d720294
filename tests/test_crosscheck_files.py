"""The files of a trace come back bit for bit, and replace nothing but a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import score

from minswin.crosscheck import folder


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

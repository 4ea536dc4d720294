"""A run that cannot begin says so at once, and takes nothing away."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_runs
from tiny_runs import arrays, records
from tiny_training import tiny_load, tiny_settings

from minswin import data
from minswin.training import train
from minswin.training.checkpoints import LAST
from minswin.training.folder import FILES

tiny = tiny_runs.tiny  # the fixture


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_loaded(tmp_path, monkeypatch):
    def load(*arguments, **settings):
        raise AssertionError("the data was loaded first")

    monkeypatch.setattr(data, "load", load)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to the folder .*file.runs .*another .*--out"):
        train(tiny_settings(tmp_path / "file" / "runs"))


def test_a_finished_run_is_not_overwritten_unless_asked(tmp_path):
    train(tiny_settings(tmp_path, epochs=2))
    before = arrays(tmp_path / LAST)
    with pytest.raises(FileExistsError, match=r"already holds a run; continue it with --resume "):
        train(tiny_settings(tmp_path, epochs=1))
    assert all(np.array_equal(a, before[n]) for n, a in arrays(tmp_path / LAST).items())
    train(tiny_settings(tmp_path, epochs=1, seed=3), overwrite=True)
    assert len(records(tmp_path, "epoch")) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_folder_with_any_file_of_a_run_is_not_used_unless_asked(tmp_path, name):
    (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(FileExistsError, match=rf"already holds (a run|{name}).*--overwrite.*--out"):
        train(tiny_settings(tmp_path, epochs=1))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"kept"


def no_data(*arguments, **settings):
    raise FileNotFoundError("load: there is no data")


@pytest.mark.parametrize(
    "why", ["unknown model", "no data", "no data for the test", "batch too large", "kernels"]
)
def test_a_start_that_fails_takes_nothing_away_and_leaves_nothing_behind(
    tmp_path, monkeypatch, why
):
    used, fresh = tmp_path / "used", tmp_path / "fresh" / "deep"
    train(tiny_settings(used, epochs=1))
    (tmp_path / "empty").mkdir()
    before = {p.name: p.read_bytes() for p in used.iterdir()}
    wrong = {"unknown model": {"model": "tinny"}, "batch too large": {"batch_size": 61}}.get(
        why, {}
    )
    if why == "no data":
        monkeypatch.setattr(data, "load", no_data)
    if why == "no data for the test":
        monkeypatch.setattr(
            data, "load", lambda *a, **k: (no_data if k["split"] == "test" else tiny_load)(*a, **k)
        )
    if why == "kernels":
        monkeypatch.setattr("minswin.kernels._environment", "abacus")
    for folder in (used, fresh, tmp_path / "empty"):
        with pytest.raises((ValueError, FileNotFoundError)):
            train(tiny_settings(folder, **wrong), overwrite=True)
    assert {p.name: p.read_bytes() for p in used.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "used"]


def test_too_few_images_for_one_batch_is_said(tmp_path):
    with pytest.raises(ValueError, match="there are 8 training images, fewer than one batch of 9"):
        train(tiny_settings(tmp_path, batch_size=9, holdout=52))


def test_a_model_that_takes_no_pieces_is_refused_before_anything_is_written(tmp_path):
    settings = tiny_settings(tmp_path / "run", model="vit_cifar", piece=4, piece_epochs=1)
    with pytest.raises(ValueError, match="vit_cifar does not take pieces of 4×4; leave out piece"):
        train(settings)
    assert list(tmp_path.iterdir()) == []

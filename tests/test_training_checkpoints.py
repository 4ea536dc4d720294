"""A checkpoint comes back bit for bit, and a damaged or foreign one says what it is."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from minswin.models import create_model
from minswin.training import checkpoints
from minswin.training.checkpoints import (
    BEST,
    LAST,
    Checkpoint,
    find_trained,
    load_trained_model,
    read_checkpoint,
    require_same_model,
    save_checkpoint,
)

TINY = {
    "img_size": 8,
    "patch_size": 2,
    "embed_dim": 4,
    "depths": [2],
    "num_heads": [2],
    "window_size": 2,
    "num_classes": 3,
}


def tiny_model(seed=0, name="swin_shapes", **settings):
    return create_model(name, rng=np.random.default_rng(seed), **{**TINY, **settings})


def example(model, average=None):
    info = {
        "model": {"name": model.name, "settings": model.settings},
        "rng": model.rng.bit_generator.state,
        "best_accuracy": 1 / 3,
    }
    arrays = {"momentum": np.arange(6, dtype=np.float64).reshape(3, 2), "steps": np.array(7)}
    return Checkpoint(info, model.state_dict(), arrays, average or {})


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path / LAST, example(tiny_model()))
    return tmp_path / LAST


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    model = tiny_model()
    strange = {
        "columns first": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        "every third": np.arange(12.0)[::3],
        "empty": np.zeros((0, 5), np.float32),
        "no axes": np.float64(-0.0).reshape(()),
        "not numbers": np.array([np.nan, np.inf, -0.0, 5e-324]),
    }
    before = example(model, strange)
    save_checkpoint(tmp_path / LAST, before)
    after = read_checkpoint(tmp_path)
    assert after.info == json.loads(json.dumps(before.info))
    assert after.info["rng"] == model.rng.bit_generator.state
    for group in ("weights", "optimizer", "average"):
        ours, theirs = getattr(before, group), getattr(after, group)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert theirs[name].dtype == array.dtype and theirs[name].shape == array.shape
            assert theirs[name].tobytes() == array.tobytes(), name


def test_the_copy_for_humans_says_the_same(saved):
    assert json.loads(saved.with_suffix(".json").read_text()) == read_checkpoint(saved).info


def test_a_checkpoint_cut_off_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    for size in [0, 1, 7, 8, 9, 500, len(whole) - 1, *rng.integers(0, len(whole), 20)]:
        saved.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"last.safetensors \({size:,} bytes\) is not a read"):
            read_checkpoint(saved)


def test_a_checkpoint_with_any_byte_changed_is_refused_or_the_same(saved):
    whole = saved.read_bytes()
    before = read_checkpoint(saved)
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(1)
    places = [*range(80), *rng.integers(0, header, 200), *rng.integers(header, len(whole), 60)]
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        try:
            after = read_checkpoint(saved)
        except ValueError as error:
            refused += 1
            assert str(saved) in str(error)
        else:  # for instance a blank that pads the header
            assert after.info == before.info
            assert all(np.array_equal(a, after.weights[n]) for n, a in before.weights.items())
    assert refused > 0.95 * len(places)


def test_the_place_of_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*nowhere; expected a fi"):
        read_checkpoint(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"last\.safetensors in it$"):
        read_checkpoint(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"in it; did you mean .*run\?"):
        read_checkpoint(tmp_path)


def test_foreign_weights_are_not_a_checkpoint(tmp_path):
    save_file({"a": np.zeros(3), "b": np.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds 2 arrays but no training state; it is not a check"):
        read_checkpoint(tmp_path / "model.safetensors")


def test_a_checkpoint_of_a_later_format_names_its_version(tmp_path, monkeypatch):
    later = Checkpoint({"minswin": "9.9"}, {"w": np.zeros(2)})
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    save_checkpoint(tmp_path / LAST, later)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"another format than 1, by minswin 9\.9"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_of_another_model_says_both_names():
    checkpoint = example(tiny_model(name="swin_cifar_small"))
    with pytest.raises(ValueError, match="of the model 'swin_cifar_small', but the model is 's"):
        require_same_model(checkpoint, tiny_model(), "x.safetensors")
    with pytest.raises(ValueError, match=r"num_classes=3, but the model has num_classes=5"):
        require_same_model(example(tiny_model()), tiny_model(num_classes=5), "x.safetensors")
    require_same_model(example(tiny_model()), tiny_model(seed=4), "x.safetensors")


def test_a_failed_save_leaves_the_old_checkpoint_and_no_litter(saved, monkeypatch):
    old = saved.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*No space left.*; check that the folder"):
        save_checkpoint(saved, example(tiny_model(seed=1)))
    assert saved.read_bytes() == old
    assert sorted(p.name for p in saved.parent.iterdir()) == ["last.json", "last.safetensors"]


@pytest.mark.parametrize("damaged", [b"", b"[1]", b'{"minswin":', b"\xff"])
def test_a_damaged_copy_for_human_eyes_keeps_no_run_from_saving(saved, damaged):
    saved.with_suffix(".json").write_bytes(damaged)
    save_checkpoint(saved, example(tiny_model(seed=1)))
    assert json.loads(saved.with_suffix(".json").read_text()) == read_checkpoint(saved).info


def test_an_empty_file_beside_it_is_nobodys(tmp_path):
    (tmp_path / "best.json").touch()
    save_checkpoint(tmp_path / BEST, example(tiny_model()))
    assert (tmp_path / "best.json").stat().st_size


def test_saving_into_a_missing_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="cannot write"):
        save_checkpoint(tmp_path / "no" / LAST, example(tiny_model()))


def test_a_trained_model_is_rebuilt_with_its_averaged_weights(tmp_path):
    model, x = tiny_model(), np.random.default_rng(2).standard_normal((2, 3, 8, 8), np.float32)
    logits = model(x).data
    save_checkpoint(tmp_path / LAST, example(tiny_model(seed=5), average=model.state_dict()))
    loaded, info = load_trained_model(tmp_path)
    assert np.array_equal(loaded(x).data, logits)
    assert not loaded.training and info["best_accuracy"] == 1 / 3


def test_the_best_checkpoint_of_a_folder_is_preferred(tmp_path, saved):
    assert find_trained(tmp_path) == tmp_path / LAST
    save_checkpoint(tmp_path / BEST, example(tiny_model()))
    assert find_trained(tmp_path) == tmp_path / BEST
    assert find_trained(saved) == saved

"""Weights are taken from what people have: files of torch.save, tensors, models, a run's folder."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import weight_files as build
from weight_files import same
from weight_states import SMALL, STATE, TIMM, doubled, swin

import minswin
from minswin.weights import dialect, load, read_weights, rename, save_weights

# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_pipes_folders_and_empty_files_say_what_they_are(tmp_path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="is no plain file but a pipe"):
            read_weights(tmp_path / "pipe")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ValueError, match=r"empty\.pth is empty, expected weights"):
        load(swin(1), tmp_path / "empty.pth")
    save_weights(tmp_path / "some.npz", STATE)
    with pytest.raises(FileNotFoundError, match=r"is a folder; .* in it are empty\.pth, some\.npz"):
        load(swin(1), tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_of_torch_save_is_read(protocol, new, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(x.copy()) for name, x in STATE.items()}
    beside = {"epoch": 3, "big": 2**40, "neg": -(2**40), "yes": True, "no": False, "lr": 0.1}
    torch.save(
        {**beside, "é": [1, (2, 3)], "model": state},
        tmp_path / "a.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=new,
    )
    assert same(read_weights(tmp_path / "a.pth"), STATE)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_protocol_0_says_what_to_do(new, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "a.pth"
    torch.save({"a": torch.ones(2)}, file, pickle_protocol=0, _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=r"saved with pickle_protocol=0, .* save it again without"):
        read_weights(file)


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_without_tensors_says_what_it_is(protocol, tmp_path) -> None:
    """Not only what torch writes today: built here, so that it runs without torch."""
    tree = pickle.dumps({"epoch": 3, "best": True, "big": 2**70}, protocol)
    (tmp_path / "a.pth").write_bytes(build.pth_file(tree, []))
    why = "saved with pickle_protocol=0" if protocol == 0 else "found: 'epoch', 'best', 'big'"
    with pytest.raises(ValueError, match=why):
        read_weights(tmp_path / "a.pth")


def test_a_file_that_is_no_archive_of_torch_keeps_its_error(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x07.")
    with pytest.raises(ValueError, match="pickle of protocol 7, expected 1 to 5"):
        read_weights(tmp_path / "a.pth")


def test_the_folder_of_a_run_gives_its_best_epoch(tmp_path) -> None:
    for name, state in (("last", doubled()), ("best", STATE)):
        save_weights(
            tmp_path / f"{name}.safetensors", {f"weights/{n}": x for n, x in state.items()}
        )
    assert same(load(swin(1), tmp_path).state_dict(), STATE)
    (tmp_path / "best.safetensors").unlink()
    assert same(load(swin(1), tmp_path).state_dict(), doubled())


# ── tensors and models where arrays are expected ─────────────────────────────────────────────────


def test_tensors_of_torch_are_taken_everywhere(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    state = {n: torch.nn.Parameter(torch.from_numpy(x.copy())) for n, x in STATE.items()}
    assert same(load(swin(1), state).state_dict(), STATE)
    assert same(minswin.create_model("swin_shapes", weights=state, **SMALL).state_dict(), STATE)
    assert dialect(state) == "microsoft"
    assert same(rename(state, "minswin", "timm"), TIMM)
    save_weights(tmp_path / "a.npz", state)
    assert same(read_weights(tmp_path / "a.npz"), STATE)
    half = {name: x.detach().to(torch.bfloat16) for name, x in state.items()}
    wide = {name: x.float().numpy() for name, x in half.items()}
    assert same(load(swin(1), half).state_dict(), wide)


def test_tensors_of_torch_are_taken_by_load_state_dict_too() -> None:
    torch = pytest.importorskip("torch")
    made = swin(1)
    made.load_state_dict({n: torch.nn.Parameter(torch.from_numpy(x)) for n, x in STATE.items()})
    assert same(made.state_dict(), STATE)
    images = torch.ones(1, 3, 32, 32, requires_grad=True)
    assert np.array_equal(made(images).data, made(images.detach().numpy()).data)
    with pytest.raises(TypeError, match=r"expected arrays by name, got str; a file is read by"):
        made.load_state_dict("a.pth")


def test_a_model_is_taken_for_its_state() -> None:
    class Module:
        def state_dict(self):
            return {f"module.{name}": x for name, x in TIMM.items()}

    assert same(load(swin(1), Module()).state_dict(), STATE)
    assert same(load(swin(1), swin()).state_dict(), STATE)


def test_what_is_no_weights_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"load: weights must be a file, .* got int"):
        load(swin(1), 3)
    with pytest.raises(TypeError, match=r"load: epoch is a int, expected an array"):
        load(swin(1), {**STATE, "epoch": 3})

"""The weights that come with the package, and how a run becomes such a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import warm
from PIL import Image
from tiny_training import install, tiny_settings

from minswin import cli
from minswin.training import train
from minswin.training.checkpoints import (
    DEFAULT,
    FOLDER,
    Checkpoint,
    export,
    find_trained,
    load_trained_model,
    pretrained,
    read_checkpoint,
    save_checkpoint,
)
from minswin.training.classifiers import predict_file
from minswin.weights.files import read_file
from minswin.weights.recognise import recognise


@pytest.fixture
def run(tmp_path, monkeypatch):
    install(monkeypatch)
    train(tiny_settings(tmp_path / "run", epochs=1), quiet=True)
    return tmp_path / "run"


def test_an_exported_run_has_its_averaged_weights_as_float16_and_nothing_else(run, tmp_path):
    export(run, tmp_path / "small.safetensors")
    small, whole = read_checkpoint(tmp_path / "small.safetensors"), read_checkpoint(run)
    assert small.info["model"] == whole.info["model"]
    assert str(tmp_path) not in str(small.info) and str(tmp_path) in str(whole.info)
    assert not small.optimizer and not small.average
    model, _ = load_trained_model(run)
    for name, p in model.named_parameters():
        assert small.weights[name].dtype == np.float16
        assert np.array_equal(small.weights[name], p.data.astype(np.float16))


def test_an_exported_run_answers_as_the_run_does(run, tmp_path):
    export(run, tmp_path / "small.safetensors")
    models = [load_trained_model(path)[0] for path in (run, tmp_path / "small.safetensors")]
    x = np.random.default_rng(0).standard_normal((3, 3, *models[0].img_size)).astype(np.float32)
    full, half = (model(x).data for model in models)
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.02 * np.abs(full).max()  # 11 bits of each weight


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth"])
def test_the_ending_of_an_exported_file_is_its_format_and_its_names_are_the_originals(
    run, tmp_path, ending
):
    export(run, tmp_path / f"small{ending}")
    file = read_file(tmp_path / f"small{ending}", prefixes=())
    assert file.format == {".pth": "torch"}.get(ending, ending[1:])
    model, info = load_trained_model(run)
    assert file.arrays.keys() == model.state_dict().keys() and "head.bias" in file.arrays
    assert all(array.dtype == np.float16 for array in file.arrays.values())
    beside = json.loads((tmp_path / "small.json").read_text("utf-8"))
    assert beside["data"] == info["data"] and beside["settings"]["out"] == ""
    assert {p.name for p in tmp_path.iterdir()} == {"run", f"small{ending}", "small.json"}


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth"])
def test_the_command_prints_what_the_exported_file_leaves_out(run, tmp_path, capsys, ending):
    assert cli.main(["export", str(run), str(tmp_path / f"small{ending}")]) == 0
    lost = "" if ending == ".safetensors" else "warning: not kept, since only .safetensors can: how"
    err = capsys.readouterr().err
    assert err.startswith(lost) and err.count("\n") == bool(lost)


def test_an_export_that_cannot_be_written_is_refused_before_the_run_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"x\.bin ends in '.bin'.*safetensors, .npz, .pth"):
        export("no run", tmp_path / "x.bin")
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(IsADirectoryError, match=r"export: .*x.npz is a folder; name a file"):
        export("no run", tmp_path / "x.npz")


@pytest.mark.parametrize("mine", ['{"name": "my site"}', "[]", "no JSON", '{"minswin": 1}'])
def test_a_file_of_others_beside_an_export_is_never_replaced(run, tmp_path, mine):
    (tmp_path / "small.json").write_text(mine)
    for ending in (".safetensors", ".npz"):
        with pytest.raises(
            FileExistsError, match=r"export: .*small\.json beside it, and that file"
        ):
            export(run, tmp_path / f"small{ending}")
    with pytest.raises(FileExistsError, match="move it away, or choose another name"):
        save_checkpoint(tmp_path / "small.safetensors", read_checkpoint(run))
    assert (tmp_path / "small.json").read_text() == mine
    assert {p.name for p in tmp_path.iterdir()} == {"run", "small.json"}
    (tmp_path / "small.json").unlink()
    for _ in range(2):  # its own is
        export(run, tmp_path / "small.npz")
        save_checkpoint(tmp_path / "bare.safetensors", Checkpoint({}, {"a": np.zeros(2)}))


def test_weights_that_were_exported_under_the_names_of_a_checkpoint_still_load(run, tmp_path):
    old = read_checkpoint(run)
    save_checkpoint(tmp_path / "old.safetensors", Checkpoint(old.info, old.weights))
    assert "weights/head.bias" in read_file(tmp_path / "old.safetensors", prefixes=()).arrays
    model, _ = load_trained_model(tmp_path / "old.safetensors")
    assert np.array_equal(model.state_dict()["head.bias"], old.weights["head.bias"])


def test_the_packaged_weights_have_the_names_that_the_card_promises():
    for path in pretrained().values():
        weights = read_file(path, prefixes=()).arrays
        assert recognise(weights).dialect == "microsoft" and "head.bias" in weights


def test_weights_beyond_float16_are_not_exported(run, tmp_path):
    spoilt = read_checkpoint(run)
    name = next(iter(spoilt.average))
    spoilt.average[name].flat[0] = 70_000
    save_checkpoint(tmp_path / "last.safetensors", spoilt)
    with pytest.raises(ValueError, match=f"export: {name} of .* beyond the range of float16"):
        export(tmp_path, tmp_path / "small.safetensors")
    assert not (tmp_path / "small.safetensors").exists()


def test_what_comes_with_the_package_is_small_and_has_a_model_card():
    assert DEFAULT in pretrained()
    for name, path in pretrained().items():
        assert path.stat().st_size <= 3_000_000
        card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        info = read_checkpoint(path).info
        assert info["model"]["name"] in card
        assert f"{info['settings']['epochs']} epochs" in card


def test_a_file_of_the_name_comes_before_the_weights_of_the_package(tmp_path, monkeypatch):
    assert find_trained(DEFAULT) == pretrained()[DEFAULT]
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).write_bytes(b"mine")
    assert str(find_trained(DEFAULT)) == DEFAULT


def test_a_picture_is_named_without_any_training(tmp_path):
    picture = tmp_path / "blue.png"
    Image.new("RGB", (48, 40), (90, 160, 240)).save(picture)
    classes, probabilities = predict_file(picture)
    assert len(classes) == len(probabilities) == 10 and "airplane" in classes
    assert abs(probabilities.sum() - 1) < 1e-6
    done = warm.run(["-m", "minswin", "predict", str(picture), "--top", "1"])
    assert done.returncode == 0, done.stderr
    assert classes[int(probabilities.argmax())] in done.stdout

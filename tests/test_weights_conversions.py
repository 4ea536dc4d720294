"""What a conversion of weights keeps, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import weight_files as build
from weight_files import same
from weight_states import STATE

import minswin
from minswin import cli
from minswin.models import create_model
from minswin.training.checkpoints import export, find_trained, load_trained_model
from minswin.training.classifiers import classifier, load_published, published_classifier
from minswin.weights import read_file, read_weights, rename, save_weights
from minswin.weights.convert import convert, describe


def test_a_file_is_converted_and_described(tmp_path, capsys):
    made = create_model("swin_cifar_small", rng=np.random.default_rng(0))
    state = made.state_dict()
    save_weights(tmp_path / "a.safetensors", state)
    for there, to in (("b.pth", "microsoft"), ("c.npz", "transformers"), ("d.safetensors", None)):
        given = ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / there)]
        assert cli.main([*given, "--to", to] if to else given) == 0
        assert there in capsys.readouterr().out
        back = dict(read_weights(tmp_path / there))
        assert same(rename(back, to, "minswin") if to else back, state)
        assert cli.main(["info", str(tmp_path / there)]) == 0
        said = capsys.readouterr().out
        assert "swin_cifar_small" in said and f"of {to or 'microsoft'}" in said
        assert "float32" in said and f"{(tmp_path / there).stat().st_size:,} bytes" in said
    assert "equal to those that minswin computes" in describe(tmp_path / "b.pth")
    loaded = minswin.create_model("swin_cifar_small", weights=tmp_path / "c.npz")
    assert same(loaded.state_dict(), state)


def test_a_conversion_reports_widened_numbers(tmp_path) -> None:
    table = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    content = build.safetensors_file(json.dumps(table).encode(), bytes(4))
    (tmp_path / "a.safetensors").write_bytes(content)
    line = convert(tmp_path / "a.safetensors", tmp_path / "b.npz")
    assert "1 arrays of bfloat16 were widened to float32" in line
    assert "bfloat16" not in convert(tmp_path / "b.npz", tmp_path / "c.npz")


def test_texts_of_a_safetensors_file_are_kept(tmp_path) -> None:
    save_weights(tmp_path / "a.safetensors", STATE, metadata={"format": "pt"})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="timm")
    assert read_file(tmp_path / "b.safetensors").metadata == {"format": "pt"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(find_trained("swin_cifar_small"), folder / "own.safetensors")
    load_trained_model(folder / "own.safetensors")
    return folder / "own.safetensors"


@pytest.mark.parametrize("to", [None, "timm", "transformers"])
def test_weights_of_a_run_keep_their_normalisation_and_classes(to, exported, tmp_path) -> None:
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 83, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    truth = classifier(exported)
    lines: list[str] = []
    convert(exported, tmp_path / "b.safetensors", to=to)
    file = tmp_path / "b.safetensors"
    converted = published_classifier("swin_cifar_small", file, tell=lines.append)
    assert list(converted.classes) == list(truth.classes) and not lines
    assert np.array_equal(converted(tmp_path / "a.png"), truth(tmp_path / "a.png"))
    assert "normalised by mean" in describe(tmp_path / "b.safetensors")
    if to is None:
        load_trained_model(tmp_path / "b.safetensors")  # still whole, with its check sum
    else:
        kept = json.loads(read_file(tmp_path / "b.safetensors").metadata["minswin"])
        assert kept.keys() == {"data"}  # no folders of the machine that trained it
        with pytest.raises(ValueError, match="not a checkpoint of 'minswin train'"):
            load_trained_model(tmp_path / "b.safetensors")


def test_a_format_that_cannot_keep_the_normalisation_says_so(exported, tmp_path) -> None:
    line = convert(exported, tmp_path / "b.pth")
    assert "how the images of the training were normalised (mean 0.4914" in line
    lines: list[str] = []
    load_published("swin_cifar_small", tmp_path / "b.pth", tell=lines.append)
    assert lines[0].startswith("images are normalised by mean (0.485, ")

"""Weights in several files are read by their index, and what is wrong with one is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from weight_files import same
from weight_states import STATE, TIMM, swin

from minswin.weights import load, read_weights, save_weights
from minswin.weights.convert import describe


def shards(folder: Path, form: str = "safetensors") -> Path:
    """Three files and their index; gives the index."""
    names = list(TIMM)
    base = "model" if form == "safetensors" else "pytorch_model"
    ending = "safetensors" if form == "safetensors" else "bin"
    places = {}
    for k in range(3):
        file = f"{base}-{k + 1:05}-of-00003.{ending}"
        part = {name: TIMM[name] for name in names[k::3]}
        save_weights(folder / f"part.{form}", part)
        os.replace(folder / f"part.{form}", folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"{base}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_shards_are_read_by_their_index_or_their_folder(form, tmp_path) -> None:
    index = shards(tmp_path, form)
    for path in (index, tmp_path):
        assert same(read_weights(path), TIMM)
        assert same(load(swin(1), path).state_dict(), STATE)
    size = sum(file.stat().st_size for file in tmp_path.iterdir() if file != index)
    assert f"in 3 files, {size:,} bytes" in describe(index)
    if form == "safetensors":
        assert not any(x.flags.owndata or x.flags.writeable for x in read_weights(index).values())


def test_a_missing_shard_is_named(tmp_path) -> None:
    index = shards(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lists 3 files, and model-00002-of-00003\S+ cannot"
    ):
        read_weights(index)


def test_a_shard_alone_points_to_the_others(tmp_path) -> None:
    shards(tmp_path)
    with pytest.raises(ValueError, match=r"It is one of several files: give their folder"):
        load(swin(1), tmp_path / "model-00001-of-00003.safetensors")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "which is no file beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "which is no file beside it"),
        ({"weight_map": {"a": ["b"]}}, "which is no file beside it"),
        ({"weight_map": {}}, "lists 0 files"),
        ({"hidden_size": 3}, "is a JSON text without a weight_map"),
        ([1], "is a JSON text without a weight_map"),
        ({"weight_map": {"other": "model-00001-of-00003.safetensors"}}, "does not hold it"),
    ],
)
def test_an_index_that_is_none_is_refused(table, why, tmp_path) -> None:
    shards(tmp_path).write_text(json.dumps(table))
    with pytest.raises(ValueError, match=rf"read_weights: \S+index\.json .*{why}"):
        read_weights(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"weight_map": 3e'])
def test_an_index_that_is_damaged_is_refused(text, tmp_path) -> None:
    index = shards(tmp_path)
    index.write_text(text)
    with pytest.raises(ValueError, match=r"read_weights: \S+index\.json "):
        read_weights(index)


def test_a_damaged_shard_is_named(tmp_path) -> None:
    index = shards(tmp_path)
    file = tmp_path / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"lists model-00003-of-00003.safetensors, which has"):
        read_weights(index)

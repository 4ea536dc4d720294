"""What is written is read back bit for bit, by this package and by those that made the formats."""

from __future__ import annotations

import os
import time
import zipfile

import numpy as np
import pytest
import weight_files as build
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minswin.weights import read_file, read_weights, save_weights
from minswin.weights.files.mapped import STORED

STATE = build.STATE
SUFFIXES = (".safetensors", ".npz", ".pth")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_bit_for_bit(suffix, tmp_path) -> None:
    path = tmp_path / f"w{suffix}"
    skipped = {
        ".safetensors": {"bfloat16", "complex64", "complex128"},
        ".npz": {"bfloat16"},
        ".pth": {"bfloat16", "uint16", "uint32", "uint64"},
    }
    kinds = st.sampled_from([np.dtype(name) for name in STORED if name not in skipped[suffix]])
    shapes = hnp.array_shapes(min_dims=0, min_side=0, max_side=5)
    names = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1)
    arrays = st.dictionaries(
        names.filter(lambda name: name != "__metadata__"),
        kinds.flatmap(lambda kind: hnp.arrays(kind, shapes)),
        min_size=1,
        max_size=4,
    )

    @given(arrays)
    def check(expected) -> None:
        save_weights(path, expected)
        assert build.same(read_weights(path, prefixes=()), expected)

    check()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_turned_strided_and_foreign_endian_arrays_are_written_as_they_look(
    suffix, tmp_path
) -> None:
    base = np.random.default_rng(1).standard_normal((4, 6, 3))
    arrays = {"turned": base.T, "every other": base[::2, ::-1], "big": base.astype(">f4")}
    save_weights(tmp_path / f"w{suffix}", arrays)
    found = read_weights(tmp_path / f"w{suffix}")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype.isnative


def test_numpy_reads_our_npz_and_we_read_its_compressed_one(tmp_path) -> None:
    save_weights(tmp_path / "ours.npz", STATE)
    with np.load(tmp_path / "ours.npz") as theirs:
        assert build.same({name: theirs[name] for name in theirs.files}, STATE)
    turned = {
        "f": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "b": np.arange(5, dtype=">i2"),
    }
    np.savez_compressed(tmp_path / "theirs.npz", **turned)
    found = read_weights(tmp_path / "theirs.npz")
    for name, array in turned.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_safetensors_package_reads_our_file_and_we_read_its(tmp_path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    save_weights(tmp_path / "ours.safetensors", STATE, metadata={"maker": "ÿ"})
    assert build.same(library.load_file(tmp_path / "ours.safetensors"), STATE)
    library.save_file(STATE, tmp_path / "theirs.safetensors", {"a": "b"})
    assert build.same(read_weights(tmp_path / "theirs.safetensors"), STATE)
    assert read_file(tmp_path / "theirs.safetensors").metadata == {"a": "b"}


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_and_what_we_save_torch_loads(zipped, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    theirs = {
        **model.state_dict(),
        "turned": base.T,
        "row": base[2, 1:4],
        "all": base,
        "empty": torch.zeros(0, 3),
        "bf16": base.bfloat16(),
        "f16": base.half(),
        "parameter": torch.nn.Parameter(base),
        "scalar": torch.tensor(3),
        "flag": torch.tensor([True, False]),
        "u8": base.byte(),
    }
    if zipped:
        theirs["u16"] = torch.tensor([7, 65535], dtype=torch.uint16)
    path = tmp_path / "w.pth"
    settings = {"_use_new_zipfile_serialization": zipped}
    torch.save({"model": theirs, "epoch": 3, "shape": base.shape}, path, **settings)
    found = read_file(path)
    assert found.stored["bf16"] == "bfloat16"
    expected = {
        name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy()
        for name, t in theirs.items()
    }
    assert build.same(found.arrays, expected)
    ours = {name: array for name, array in found.arrays.items() if name != "u16"}
    save_weights(tmp_path / "ours.pth", ours, wrapper="model")
    for mapped in (False, True):
        back = torch.load(tmp_path / "ours.pth", weights_only=True, mmap=mapped)["model"]
        assert build.same({name: t.numpy() for name, t in back.items()}, ours)


def test_the_numbers_of_a_pth_file_begin_at_multiples_of_64(tmp_path) -> None:
    save_weights(tmp_path / "w.pth", STATE)
    content = (tmp_path / "w.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            at = entry.header_offset
            names, extra = (
                int.from_bytes(content[at + i : at + i + 2], "little") for i in (26, 28)
            )
            assert (at + 30 + names + extra) % 64 == 0, entry.filename


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(suffix, tmp_path, monkeypatch) -> None:
    path = tmp_path / f"w{suffix}"
    save_weights(path, STATE)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"save_weights: cannot write .*No space left"):
        save_weights(path, {"a": np.ones(3)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_weights_are_the_same_bytes(suffix, tmp_path, monkeypatch) -> None:
    """Whenever they are written: a zip file has room for a date."""
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for year, path in enumerate(paths, 2001):
        date = time.struct_time((year, 1, 1, 0, 0, 0, 0, 1, 0))
        monkeypatch.setattr(time, "localtime", lambda *_, date=date: date)
        save_weights(path, STATE)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_cannot_be_written_says_why(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"ends in '\.bin', expected one of \.safetensors"):
        save_weights(tmp_path / "w.bin", STATE)
    with pytest.raises(TypeError, match="save_weights: a is of uint16, expected one of bool"):
        save_weights(tmp_path / "w.pth", {"a": np.zeros(2, np.uint16)})
    with pytest.raises(TypeError, match="a is of object"):
        save_weights(tmp_path / "w.npz", {"a": np.array([None])})
    with pytest.raises(ValueError, match="cannot hold a wrapper"):
        save_weights(tmp_path / "w.npz", STATE, wrapper="model")
    with pytest.raises(ValueError, match="there are no arrays"):
        save_weights(tmp_path / "w.pth", {})
    assert not os.listdir(tmp_path)


def test_weights_may_be_written_over_the_file_that_they_were_read_from(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE)
    save_weights(path, read_weights(path))
    assert build.same(read_weights(path), STATE)

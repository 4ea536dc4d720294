"""A set by its name: where it is looked for, when it is fetched, how much of it is taken."""

from __future__ import annotations

import cifar_files
import numpy as np
import pytest
from cifar_files import RECORDS, make, pack, same, served, write

from minswin import data
from minswin.data import make_shapes
from minswin.data.cifar import LAYOUTS, download, read_cifar

server = cifar_files.server  # the fixture


@pytest.fixture
def three_records(monkeypatch):
    layout = LAYOUTS["cifar10"]
    monkeypatch.setitem(layout.records, "train", RECORDS)
    monkeypatch.setitem(layout.records, "test", RECORDS)


@pytest.mark.usefixtures("three_records")
def test_load_reads_a_folder_and_takes_the_first_samples(tmp_path):
    write(tmp_path, make("cifar10")[0])
    whole = data.load("cifar10", split="train", data_dir=tmp_path)
    assert len(whole) == 5 * RECORDS
    few = data.load("cifar10", split="train", data_dir=tmp_path, count=4)
    assert same(few, whole.subset(slice(4)))
    with pytest.raises(ValueError, match="count is 16, expected 1 to 15"):
        data.load("cifar10", split="train", data_dir=tmp_path, count=16)


@pytest.mark.usefixtures("three_records")
def test_load_looks_in_the_cache_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    write(tmp_path / ".cache" / "minswin" / "cifar-10-batches-bin", make("cifar10")[0])
    assert len(data.load("cifar10", split="test")) == RECORDS


@pytest.mark.usefixtures("three_records")
def test_load_fetches_only_when_asked_and_only_what_is_missing(tmp_path, monkeypatch):
    fetched = []

    def fetch(name, folder):
        fetched.append(name)
        return pack(write(folder, {}) / LAYOUTS[name].archive, make(name)[0])

    monkeypatch.setattr("minswin.data.cifar.download", fetch)
    with pytest.raises(FileNotFoundError, match=r"there is no .*download=True.*--download"):
        data.load("cifar10", split="test", data_dir=tmp_path / "x")
    assert fetched == []
    for _ in range(2):
        got = data.load("cifar10", split="test", data_dir=tmp_path / "x", download=True)
    assert len(got) == RECORDS and fetched == ["cifar10"]


@pytest.mark.usefixtures("three_records")
@pytest.mark.parametrize("damage", ["cut off", "one byte flipped"])
def test_load_fetches_a_damaged_archive_again_when_asked(tmp_path, server, monkeypatch, damage):
    (address, asked), (md5, content) = server, served(tmp_path)
    whole = (tmp_path / "served" / "set.tar.gz").read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    local = write(tmp_path / "x", {}) / "cifar-10-binary.tar.gz"
    local.write_bytes(whole[:half] if damage == "cut off" else flipped)
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz .* is damaged"):
        data.load("cifar10", split="test", data_dir=tmp_path / "x")
    assert asked == []

    def fetch(name, folder):
        return download(name, folder, url=f"{address}/set.tar.gz", md5=md5, progress=False)

    monkeypatch.setattr("minswin.data.cifar.download", fetch)
    for _ in range(2):
        got = data.load("cifar10", split="test", data_dir=tmp_path / "x", download=True)
    assert asked == ["/set.tar.gz"] and local.read_bytes() == whole
    assert same(got, read_cifar(write(tmp_path / "f", content), split="test", records=RECORDS))


@pytest.mark.usefixtures("three_records")
def test_a_fetch_that_fails_tells_what_was_wrong_before_it(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"half of it")

    def fetch(name, folder):
        raise OSError("no way out")

    monkeypatch.setattr("minswin.data.cifar.download", fetch)
    with pytest.raises(OSError, match="no way out") as caught:
        data.load("cifar10", split="test", data_dir=tmp_path, download=True)
    assert "is damaged" in str(caught.value.__context__)


def test_load_makes_the_built_in_set():
    train = data.load("shapes", split="train", seed=4, count=12)
    test = data.load("shapes", split="test", seed=4, count=12)
    assert len(train) == len(test) == 12 and not np.array_equal(train.images, test.images)
    np.testing.assert_array_equal(train.images, make_shapes(12, seed=4).images)


def test_load_names_the_nearest_set():
    with pytest.raises(ValueError, match=r"'cifar-10'.*shapes, cifar10, cifar100.*'cifar10'\?"):
        data.load("cifar-10", split="train")
    with pytest.raises(ValueError, match="split is 'valid'"):
        data.load("shapes", split="valid")

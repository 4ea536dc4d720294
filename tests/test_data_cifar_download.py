"""CIFAR is fetched once, is checked by its sum, and leaves nothing where it fails."""

from __future__ import annotations

import hashlib

import cifar_files
import pytest
from cifar_files import RECORDS, same, served, write

from minswin.data.cifar import download, read_cifar

server = cifar_files.server  # the fixture


def test_download_fetches_once_and_the_set_can_be_read(tmp_path, server, capsys):
    (address, asked), (md5, content) = server, served(tmp_path)
    for _ in range(2):
        path = download("cifar10", tmp_path / "new" / "home", url=f"{address}/set.tar.gz", md5=md5)
    assert path == tmp_path / "new" / "home" / "cifar-10-binary.tar.gz"
    assert asked == ["/set.tar.gz"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert "set.tar.gz" in capsys.readouterr().err  # the progress bar
    got = read_cifar(path.parent, split="test", records=RECORDS)
    assert same(got, read_cifar(write(tmp_path / "f", content), split="test", records=RECORDS))


def test_download_replaces_a_damaged_archive_and_can_be_silent(tmp_path, server, capsys):
    (address, _), (md5, _) = server, served(tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"half of it")
    path = download("cifar10", tmp_path, url=f"{address}/set.tar.gz", md5=md5, progress=False)
    assert hashlib.md5(path.read_bytes()).hexdigest() == md5
    assert capsys.readouterr().err == ""


def test_a_wrong_checksum_names_both_sums_and_leaves_nothing(tmp_path, server):
    (address, _), (md5, _) = server, served(tmp_path)
    with pytest.raises(ValueError, match=f"md5 sum {md5}, expected {'0' * 32}.*deleted"):
        download(
            "cifar10", tmp_path / "new", url=f"{address}/set.tar.gz", md5="0" * 32, progress=False
        )
    assert list((tmp_path / "new").iterdir()) == []


def test_a_failed_download_names_the_address_and_leaves_nothing(tmp_path, server):
    address, _ = server
    with pytest.raises(OSError, match=r"/none could not be fetched .*404"):
        download("cifar10", tmp_path / "new", url=f"{address}/none", progress=False)
    assert list((tmp_path / "new").iterdir()) == []


def test_the_official_addresses_and_sums_are_used_by_default(tmp_path, monkeypatch):
    asked = []

    def fetch(url, part, *, progress):
        asked.append(url)
        part.write_bytes(b"")
        return "not the sum"

    monkeypatch.setattr("minswin.data.cifar._fetch", fetch)
    sums = {"10": "c32a1d4ab5d03f1284b67883e8d87530", "100": "03b5dce01913d631647c71ecec9e9cb8"}
    for number, md5 in sums.items():
        with pytest.raises(ValueError, match=f"expected {md5}"):
            download(f"cifar{number}", tmp_path)
    home = "https://www.cs.toronto.edu/~kriz"
    assert asked == [f"{home}/cifar-10-binary.tar.gz", f"{home}/cifar-100-binary.tar.gz"]

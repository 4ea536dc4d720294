"""An archive of CIFAR: found, never unpacked, and refused however little of it is damaged."""

from __future__ import annotations

import io
import re
import tarfile

import numpy as np
import pytest
from cifar_files import RECORDS, make, pack, same, write

from minswin.data.cifar import LAYOUTS, read_cifar


def test_nothing_is_unpacked_from_an_archive_with_hostile_members(tmp_path):
    content, truth, _ = make("cifar10")
    path = write(tmp_path / "in", {}) / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        folder = tarfile.TarInfo("x/test_batch.bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for file, value in content.items():
            member = tarfile.TarInfo(f"../../{file}")
            member.size = len(value)
            archive.addfile(member, io.BytesIO(value))
    before = sorted(tmp_path.rglob("*"))
    got = read_cifar(path, split="test", records=RECORDS)
    np.testing.assert_array_equal(got.images, truth["test_batch.bin"][0])
    assert sorted(tmp_path.rglob("*")) == before


# ── damage ────────────────────────────────────────────────────────────────────────────────────────


def packed(tmp_path, mode):
    """A small set as the bytes of an archive, and what it reads as."""
    path = pack(tmp_path / "whole", make("cifar10")[0], mode=mode)
    return path.read_bytes(), read_cifar(path, records=RECORDS)


def read_damaged(path, value):
    """The set, or None where the archive was refused as it should be."""
    path.write_bytes(value)
    try:
        return read_cifar(path, records=RECORDS)
    except ValueError as error:
        whole = f"read_cifar: {path} ({len(value):,} bytes) is damaged, cut off, or no .tar.gz or"
        assert str(error).startswith(whole)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_byte_flipped_in_an_archive_is_noticed_wherever_it_would_change_the_set(tmp_path, mode):
    whole, first = packed(tmp_path, mode)
    size, noticed = len(whole), 0
    middle = np.random.default_rng(5).integers(40, size - 40, 60)
    for at in (*range(40), *middle, *range(size - 40, size)):
        value = bytearray(whole)
        value[at] ^= 0x10
        got = read_damaged(tmp_path / "flipped.tar.gz", bytes(value))
        noticed += got is None
        assert got is None or (same(got, first) and at not in middle)
    assert noticed > 100


def test_damage_in_an_archive_that_was_squeezed_is_noticed(tmp_path):
    few = {file: bytes(v & 7 for v in value) * 9 for file, value in make("cifar10")[0].items()}
    content = {**few, "batches.meta.txt": b"a b c d e f g h i j"}
    whole = pack(tmp_path / "whole", content).read_bytes()
    rng = np.random.default_rng(7)
    for at in rng.integers(40, len(whole) - 8, 60):
        for value in (
            whole[:at] + bytes(20) + whole[at + 20 :],
            whole[:at] + rng.bytes(len(whole)),
        ):
            assert read_damaged(tmp_path / "noise.tar.gz", value) is None


def test_a_header_that_makes_no_sense_is_damage(tmp_path):
    with tarfile.open(tmp_path / "odd", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("test_batch.bin")
        member.pax_headers = {"GNU.sparse.map": "zero,one"}
        archive.addfile(member)
    assert read_damaged(tmp_path / "odd.tar", (tmp_path / "odd").read_bytes()) is None


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_an_archive_cut_off_anywhere_is_damaged_and_no_file_of_it_missing(tmp_path, mode):
    whole, _ = packed(tmp_path, mode)
    cuts = np.random.default_rng(6).integers(20, len(whole), 40)
    for cut in (*range(20), *cuts, *range(len(whole) - 20, len(whole))):
        assert read_damaged(tmp_path / "cut.tar.gz", whole[:cut]) is None


def test_a_tar_cut_off_or_with_a_damaged_head_is_damaged_and_no_file_of_it_missing(tmp_path):
    whole, first = packed(tmp_path, "w")
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for at in range(0, end, 512):
        assert read_damaged(tmp_path / "cut.tar", whole[:at]) is None
        assert read_damaged(tmp_path / "cut.tar", whole[: at + 300]) is None
    heads = [at for at in range(0, end, 512) if whole[at + 257 : at + 262] == b"ustar"]
    assert len(heads) == 7 and same(read_damaged(tmp_path / "not", whole), first)
    for at in heads:
        value = whole[:at] + b"\x01" + whole[at + 1 :]
        assert read_damaged(tmp_path / "head.tar", value) is None


@pytest.mark.parametrize(
    "start", [b"", b"\x1f\x8b", b"\x1f\x8b\x08", b"\xfd7z", b"\xfd7zXZ\0", b"BZh"]
)
def test_what_is_no_archive_is_refused_however_short(tmp_path, start):
    for rest in (b"", b"\0", b"<html>not found</html>" * 40, bytes(2000)):
        if start + rest:
            assert read_damaged(tmp_path / "page.tar.gz", start + rest) is None
    assert read_damaged(tmp_path / "page.tar.gz", b"") is None


# ── which archive of a folder ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-bin.tar.xz"),
        ("cifar10", "cifar-10-batches-bin (1).tar.gz"),
        ("cifar10", "cifar-10-binary.tar.xz"),
        ("cifar100", "cifar-100-binary-mirror.tar.gz"),
    ],
)
def test_an_archive_under_another_name_is_found_in_its_folder(tmp_path, name, file):
    content, truth, _ = make(name)
    other = {**content, **dict.fromkeys(LAYOUTS[name].files["test"], b"not this one")}
    pack(tmp_path / "a.tar.gz", other)
    pack(tmp_path / file, content, f"{LAYOUTS[name].folder}/", f"w:{file[-2:]}")
    got = read_cifar(tmp_path, name=name, split="test", records=RECORDS)
    np.testing.assert_array_equal(got.images, truth[LAYOUTS[name].files["test"][0]][0])


def test_the_official_archive_comes_first_and_of_two_files_of_a_name_the_first(tmp_path):
    content, truth, _ = make("cifar10")
    other = {**content, "test_batch.bin": content["data_batch_2.bin"]}
    pack(tmp_path / "cifar-10-batches-bin.tar.gz", other)
    files = {**content, "later/test_batch.bin": content["data_batch_2.bin"]}
    pack(tmp_path / "cifar-10-binary.tar.gz", files)
    got = read_cifar(tmp_path, split="test", records=RECORDS)
    np.testing.assert_array_equal(got.images, truth["test_batch.bin"][0])


def test_damage_is_told_before_what_the_official_archive_lacks(tmp_path):
    pack(tmp_path / "cifar-10-binary.tar.gz", {"readme.txt": b"nothing else"})
    (tmp_path / "cifar-10-binary.tar.xz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"binary\.tar\.xz \(4 bytes\) is damaged"):
        read_cifar(tmp_path, records=RECORDS)


def test_every_archive_is_tried_and_damage_is_told_before_a_missing_file(tmp_path):
    content, _, _ = make("cifar10")
    damaged = tmp_path / "cifar-10-binary.tar.gz"
    damaged.write_bytes(pack(tmp_path / "whole", content).read_bytes()[:-3])
    pack(tmp_path / "cifar-10-batches-bin.tar.gz", {"readme.txt": b"nothing else"})
    (tmp_path / "cifar-10-batches-bin.tar.xz").mkdir()
    with pytest.raises(ValueError, match=rf"{re.escape(str(damaged))} \(.* bytes\) is damaged"):
        read_cifar(tmp_path, records=RECORDS)
    good = pack(tmp_path / "cifar-10-binary.2.tar.xz", content, mode="w:xz")
    assert same(read_cifar(tmp_path, records=RECORDS), read_cifar(good, records=RECORDS))
    damaged.unlink()
    good.unlink()
    with pytest.raises(FileNotFoundError, match=r"bin\.tar\.gz has no .*; found: readme\.txt"):
        read_cifar(tmp_path, records=RECORDS)

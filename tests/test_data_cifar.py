"""CIFAR files: every layout gives the same set, and what is wrong with a file is said."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import tarfile
import threading

import numpy as np
import pytest

from minswin import data
from minswin.data import make_shapes
from minswin.data.cifar import LAYOUTS, download, read_cifar

RECORDS = 3
NAMES = {"cifar10": 10, "cifar100": 100}
FILES = {
    ("cifar10", "train"): [f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)],
    ("cifar10", "test"): ["test_batch.bin"],
    ("cifar100", "train"): ["train.bin"],
    ("cifar100", "test"): ["test.bin"],
}


def make(name):
    """The files of a small set as bytes, and the images and labels that went into each."""
    layout = LAYOUTS[name]
    rng = np.random.default_rng(len(name))
    content, truth = {}, {}
    for file in (*layout.files["train"], *layout.files["test"]):
        images = rng.integers(0, 256, (RECORDS, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, layout.labels, (RECORDS, len(layout.labels)), dtype=np.uint8)
        content[file] = b"".join(
            bytes(label) + bytes(image) for label, image in zip(labels, images, strict=True)
        )
        truth[file] = images, labels[:, -1].astype(np.int64)
    names = [f"thing_{i}" for i in range(NAMES[name])]
    content[layout.meta] = "".join(f"{line}\n" for line in [*names, ""]).encode()
    return content, truth, tuple(names)


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in content.items():
        (folder / file).write_bytes(value)
    return folder


def pack(path, content, prefix="", mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for file, value in content.items():
            member = tarfile.TarInfo(f"{prefix}{file}")
            member.size = len(value)
            archive.addfile(member, io.BytesIO(value))
    return path


def same(one, other):
    return (
        np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        and (one.classes, one.name) == (other.classes, other.name)
    )


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_read_cifar_gives_the_images_and_fine_labels_in_file_order(tmp_path, name, split):
    content, truth, names = make(name)
    got = read_cifar(write(tmp_path, content), name=name, split=split, records=RECORDS)
    files = FILES[name, split]
    np.testing.assert_array_equal(got.images, np.concatenate([truth[f][0] for f in files]))
    np.testing.assert_array_equal(got.labels, np.concatenate([truth[f][1] for f in files]))
    assert (got.classes, got.name) == (names, name)


@pytest.mark.parametrize("name", NAMES)
def test_folder_subfolder_and_archives_hold_the_same_set(tmp_path, name):
    content, _, _ = make(name)
    layout = LAYOUTS[name]
    places = [
        write(tmp_path / "flat", content),
        write(tmp_path / "deep" / layout.folder, content).parent,
        pack(tmp_path / "a.tar.gz", content, f"{layout.folder}/"),
        pack(tmp_path / "a.tar.xz", content, f"./{layout.folder}/", "w:xz"),
        pack(write(tmp_path / "fetched", {}) / layout.archive, content, f"{layout.folder}/").parent,
    ]
    first, *others = (read_cifar(p, name=name, split="test", records=RECORDS) for p in places)
    assert len(first) == RECORDS
    assert all(same(first, other) for other in others)


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


def test_a_missing_file_is_named_with_what_was_found(tmp_path):
    content, _, _ = make("cifar10")
    del content["data_batch_4.bin"]
    for place in (write(tmp_path / "a", content), pack(tmp_path / "b.tar.gz", content)):
        said = (
            rf"{re.escape(str(place))} has no data_batch_4\.bin \(9,219 bytes\); found: .*_1\.bin"
        )
        with pytest.raises(FileNotFoundError, match=said):
            read_cifar(place, records=RECORDS)
        assert len(read_cifar(place, split="test", records=RECORDS)) == RECORDS


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        (
            "cifar10",
            "train",
            r"data_batch_1\.bin \(30,730,000 bytes\).*meta\.txt \(10 names\); found",
        ),
        ("cifar10", "test", r"test_batch\.bin \(30,730,000 bytes\)"),
        (
            "cifar100",
            "train",
            r"train\.bin \(153,700,000 bytes\), fine_.*\.txt \(100 names\); found",
        ),
        ("cifar100", "test", r"test\.bin \(30,740,000 bytes\)"),
    ],
)
def test_a_missing_file_says_its_expected_size(tmp_path, name, split, said):
    with pytest.raises(FileNotFoundError, match=said):
        read_cifar(tmp_path, name=name, split=split)


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_folder_in_the_place_of_a_file_is_named_with_the_size_expected(tmp_path, folder, alone):
    content, _, _ = make("cifar10")
    del content["test_batch.bin"]
    place = write(tmp_path / folder, {} if alone else content) / "test_batch.bin"
    place.mkdir()
    said = f"^read_cifar: {re.escape(str(place))} is a folder, expected a file of 9,219 bytes"
    with pytest.raises(ValueError, match=said):
        read_cifar(tmp_path, split="test", records=RECORDS)


def test_a_relative_path_is_made_whole_in_errors(tmp_path, monkeypatch):
    content, _, _ = make("cifar10")
    write(tmp_path / "here", {**content, "test_batch.bin": b"short"})
    monkeypatch.chdir(tmp_path)
    said = f"{re.escape(str(tmp_path / 'here' / 'test_batch.bin'))} has 5 bytes, expected 9,219"
    with pytest.raises(ValueError, match=said):
        read_cifar("here", split="test", records=RECORDS)


def test_a_missing_folder_and_an_empty_one_say_where_to_get_the_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere.*cifar-10-binary\.tar\.gz"):
        read_cifar(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"found: nothing.*cifar-100-binary\.tar\.gz"):
        read_cifar(tmp_path, name="cifar100")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "data_batch_1"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python"),
        ("cifar100", "meta"),
    ],
)
def test_the_python_version_is_recognized_and_not_read(tmp_path, name, file):
    with pytest.raises(FileNotFoundError, match=r"pickles.*binary version instead: https.*binary"):
        read_cifar(write(tmp_path, {file: b"\x80\x02"}), name=name)


def test_a_file_of_the_wrong_size_is_named_with_both_sizes(tmp_path):
    content, _, _ = make("cifar10")
    whole = content["data_batch_3.bin"]
    for value, said in ((whole[:1000], "1,000"), (whole + b"x", "9,220")):
        changed = {**content, "data_batch_3.bin": value}
        for place in (
            write(tmp_path / "a", changed),
            pack(tmp_path / "b.tar.gz", changed, "deep/"),
        ):
            file = re.escape(str(place / "data_batch_3.bin"))
            with pytest.raises(ValueError, match=f"{file} has {said} bytes, expected 9,219"):
                read_cifar(place, records=RECORDS)


def test_the_official_number_of_records_is_expected_by_default(tmp_path):
    for name, size in (("cifar10", "30,730,000"), ("cifar100", "153,700,000")):
        content, _, _ = make(name)
        with pytest.raises(ValueError, match=f"has .* bytes, expected {size}; the file is cut off"):
            read_cifar(write(tmp_path, content), name=name)


@pytest.mark.parametrize(
    ("name", "byte", "value", "said"),
    [
        ("cifar10", 0, 10, "label byte 0 is 10, expected 0 to 9"),
        ("cifar100", 0, 20, "label byte 0 is 20, expected 0 to 19"),
        ("cifar100", 1, 100, "label byte 1 is 100, expected 0 to 99"),
    ],
)
def test_a_label_out_of_range_is_named_with_its_record(tmp_path, name, byte, value, said):
    content, _, _ = make(name)
    file = LAYOUTS[name].files["test"][0]
    record = bytearray(content[file])
    record[2 * (len(LAYOUTS[name].labels) + 3072) + byte] = value
    write(tmp_path, {**content, file: bytes(record)})
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / file))}, record 2: {said}"):
        read_cifar(tmp_path, name=name, split="test", records=RECORDS)


def test_a_wrong_number_of_class_names_is_refused(tmp_path):
    content, _, _ = make("cifar10")
    write(tmp_path, {**content, "batches.meta.txt": b"airplane\ntruck\n"})
    said = f"{re.escape(str(tmp_path / 'batches.meta.txt'))} has 2 names, expected 10"
    with pytest.raises(ValueError, match=said):
        read_cifar(tmp_path, records=RECORDS)


# ---- archives --------------------------------------------------------------------------------


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


def test_unknown_names_and_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="name is 'cifar11'"):
        read_cifar(tmp_path, name="cifar11")
    with pytest.raises(ValueError, match="split is 'valid'"):
        read_cifar(tmp_path, split="valid")
    with pytest.raises(ValueError, match="name is 'mnist'"):
        download("mnist", tmp_path)


# ---- download --------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/served on this machine; gives its address and the list of paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}", asked
        finally:
            running.shutdown()
            thread.join()


def served(tmp_path):
    content, _, _ = make("cifar10")
    path = pack(tmp_path / "served" / "set.tar.gz", content, "cifar-10-batches-bin/")
    return hashlib.md5(path.read_bytes()).hexdigest(), content


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


# ---- load ------------------------------------------------------------------------------------


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

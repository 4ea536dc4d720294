"""CIFAR in a folder: its files give the set, and what is wrong with one of them is said."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cifar_files import NAMES, RECORDS, make, pack, same, write

from minswin.data.cifar import LAYOUTS, download, read_cifar

FILES = {
    ("cifar10", "train"): [f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)],
    ("cifar10", "test"): ["test_batch.bin"],
    ("cifar100", "train"): ["train.bin"],
    ("cifar100", "test"): ["test.bin"],
}


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


def test_unknown_names_and_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="name is 'cifar11'"):
        read_cifar(tmp_path, name="cifar11")
    with pytest.raises(ValueError, match="split is 'valid'"):
        read_cifar(tmp_path, split="valid")
    with pytest.raises(ValueError, match="name is 'mnist'"):
        download("mnist", tmp_path)

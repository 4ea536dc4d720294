"""A folder of pictures, a folder for each class: what is taken, left out, and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import COLOURS, draw

from minswin import data
from minswin.data import folders, list_pictures, read_folder
from minswin.data.dataset import statistics


def test_the_classes_are_the_folders_and_a_fifth_of_each_tests(pictures: Path) -> None:
    train = read_folder(pictures, split="train", size=8)
    test = read_folder(pictures, split="test", size=8)
    assert train.classes == test.classes == ("blue", "green", "red")
    assert np.bincount(train.labels).tolist() == [8, 8, 8]
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    assert train.images.shape == (24, 3, 8, 8) and train.name == "pictures/"
    for part in (train, test):  # blue, green, red are the channels 2, 1, 0
        assert (part.images.mean(axis=(2, 3)).argmax(axis=1) == 2 - part.labels).all()


def test_a_picture_keeps_its_side_when_others_come(pictures: Path) -> None:
    before = {file for file, _ in list_pictures(pictures).sides["test"]}
    for i in range(10, 20):
        draw(pictures / "red" / f"{i}.png", COLOURS["red"], 100 + i)
    after = list_pictures(pictures).sides
    others = {file for file in before if file.parts[-2] != "red"}
    assert others <= {file for file, _ in after["test"]}
    assert len(after["test"]) == 2 + 2 + 4
    assert not {f for f, _ in after["test"]} & {f for f, _ in after["train"]}


def test_with_cuts_each_picture_keeps_its_side_whatever_comes_or_goes(pictures: Path) -> None:
    before = list_pictures(pictures)
    assert list_pictures(pictures, cuts=before.cuts) == before
    for i in range(10, 60):
        draw(pictures / "red" / f"{i}.png", COLOURS["red"], 100 + i)
    plain, after = list_pictures(pictures), list_pictures(pictures, cuts=before.cuts)
    assert after.cuts == before.cuts != plain.cuts
    for side in ("train", "test"):
        assert set(before.sides[side]) < set(after.sides[side])
    assert set(before.sides["train"]) & set(plain.sides["test"])  # without them some change sides
    gone = after.sides["test"][-1][0]
    gone.unlink()
    less = list_pictures(pictures, cuts=before.cuts)
    assert set(less.sides["test"]) == {(f, n) for f, n in after.sides["test"] if f != gone}
    for file, number in less.sides["test"]:
        if number == 0:
            file.unlink()
    with pytest.raises(ValueError, match=r"load: .*blue has no picture to test with; put some in"):
        list_pictures(pictures, cuts=before.cuts)
    assert set(list_pictures(pictures, cuts={"red": before.cuts["red"]}).cuts) == set(COLOURS)


def test_a_picture_that_teaches_never_tests_by_a_copy_that_comes_later(pictures: Path) -> None:
    before = list_pictures(pictures)
    for side, members in before.sides.items():
        file = next(f for f, number in members if number == 2)
        names = [f"{i}.png" for i in range(-99, 0)]  # they come before the others, and test
        tests = next(n for n in names if folders.digest_of(n) < "1")
        shutil.copy(file, pictures / "red" / tests)
        after = list_pictures(pictures, cuts=before.cuts)
        contents = {f.read_bytes() for f, _ in after.sides[side]}
        assert contents == {f.read_bytes() for f, _ in members}
        (pictures / "red" / tests).unlink()


def test_what_is_no_picture_is_named_and_left_out(pictures: Path) -> None:
    (pictures / "red" / "notes.txt").write_text("no picture")
    whole = (pictures / "red" / "0.png").read_bytes()
    (pictures / "red" / "half.png").write_bytes(whole[: len(whole) // 2])
    shutil.copy(pictures / "red" / "0.png", pictures / "green" / "copy.png")
    (pictures / "beside.txt").write_text("in no class")
    (pictures / ".hidden").write_text("")
    (pictures / "red" / ".DS_Store").write_text("")
    draw(pictures / "red" / ".thumbnails" / "0.png", COLOURS["red"], 999)
    (pictures / "red" / "link.png").symlink_to("nowhere.png")
    lines: list[str] = []
    every = read_folder(pictures, split="all", size=8, tell=lines.append)
    assert len(every) == 30  # green/copy.png comes first, so red/0.png is the copy
    assert [line.split(": ")[1] for line in lines[:2]] == [
        f"{pictures}/beside.txt",
        f"{pictures}/red/0.png",
    ]
    assert f"the same file as {pictures}/green/copy.png" in lines[1]
    assert sum("notes.txt" in line for line in lines) == 1 and len(lines) == 5
    assert sum("half.png cannot be read as a picture" in line for line in lines) == 1
    assert sum("there is no image" in line and "link.png" in line for line in lines) == 1
    told: list[str] = []
    read_folder(pictures, split="test", size=8, tell=told.append)
    assert not any("beside" in line or "copy" in line for line in told)  # said once is enough


def test_twenty_files_are_named_and_the_others_counted(pictures: Path) -> None:
    for i in range(30):
        (pictures / "red" / f"{i}.txt").write_text(f"no picture {i}")
    lines: list[str] = []
    read_folder(pictures, split="all", size=8, tell=lines.append)
    assert len(lines) == 21 and lines[-1] == "left out: 10 more files"


def test_folders_called_train_and_test_are_the_two_sides(pictures: Path) -> None:
    whole = read_folder(pictures, split="all", size=8)
    (pictures / "train").mkdir()
    for name in COLOURS:
        shutil.move(pictures / name, pictures / "train" / name)
        draw(pictures / "val" / name / "1.png", COLOURS[name], 500)
    train, test = (read_folder(pictures, split=s, size=8) for s in ("train", "test"))
    assert len(train) == len(whole) and len(test) == 3 and train.classes == test.classes
    shutil.rmtree(pictures / "val" / "red")
    with pytest.raises(ValueError, match=r"has the class 'red' on one of its two sides only"):
        list_pictures(pictures)


def test_a_count_takes_pictures_of_every_class(pictures: Path) -> None:
    few = read_folder(pictures, split="train", size=8, count=6)
    assert np.bincount(few.labels).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="count is 25, expected 1 to 24"):
        read_folder(pictures, split="train", size=8, count=25)


def test_what_cannot_be_a_set_is_refused_in_words(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        list_pictures(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"a folder of pictures for each of two.* it has none"):
        list_pictures(pictures / "red" / "more")
    with pytest.raises(ValueError, match="split is 'held-out', expected one of train, test, all"):
        read_folder(pictures, split="held-out", size=8)
    for name in ("blue", "green"):
        shutil.move(pictures / name, tmp_path / name)
    with pytest.raises(ValueError, match="it has only 'red'"):
        list_pictures(pictures)
    draw(pictures / "yellow" / "1.png", (220, 220, 20), 0)
    with pytest.raises(ValueError, match="yellow has 1 picture, expected 2 or more"):
        list_pictures(pictures)
    (pictures / "yellow" / "1.png").write_text("a")
    (pictures / "yellow" / "2.png").write_text("b")
    with pytest.raises(ValueError, match=r"of the class 'yellow' of .* no picture to train on"):
        read_folder(pictures, split="train", size=8)


def test_a_class_that_is_a_copy_of_another_is_called_so(pictures: Path) -> None:
    shutil.copytree(pictures / "blue", pictures / "sky")
    with pytest.raises(
        ValueError, match=r"all pictures of \S+sky are copies .* file as \S+blue/0\.p"
    ):
        list_pictures(pictures)


def test_load_takes_the_path_of_a_folder_and_names_of_sets_come_first(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.load(str(pictures), split="train", size=8).name == "pictures/"
    pictures.rename(pictures.parent / "shapes")
    monkeypatch.chdir(pictures.parent)
    assert data.load("shapes", split="test", count=3).name == "shapes"
    assert data.load("./shapes", split="test", size=8).name == "shapes/"


def test_statistics_are_those_of_all_pixels_or_the_known_ones(pictures: Path) -> None:
    images = read_folder(pictures, split="train", size=8)
    mean, std = statistics(images)
    pixels = images.images / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-9)
    assert statistics(data.load("shapes", split="test", count=9)) == data.STATISTICS["shapes"]
    images.images[...] = 7
    assert statistics(images)[1] == (1, 1, 1)


def test_pictures_are_held_one_by_one_and_then_as_one_array(monkeypatch):
    """A machine of 24,000 bytes, of which ten pictures of 20×20 take all, and eleven more."""
    monkeypatch.setattr(folders.os, "sysconf", {"SC_PHYS_PAGES": 6, "SC_PAGE_SIZE": 4000}.get)
    folders._require_memory(10, 20)
    with pytest.raises(MemoryError, match="11 pictures of 20×20 take 26,400 bytes"):
        folders._require_memory(11, 20)

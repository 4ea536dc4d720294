"""minswin train --data FOLDER: one's own pictures, and where they are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from drawn_pictures import COLOURS, draw
from tiny_runs import stop_after

from minswin import cli
from minswin.data import list_pictures
from minswin.training import (
    Settings,
    read_checkpoint,
    recipe,
    resume,
    train,
)
from minswin.training.checkpoints import export
from minswin.training.classifiers import classifier
from minswin.training.evaluation import evaluate_checkpoint

pytestmark = pytest.mark.usefixtures("tiny_of_pictures")
QUICK = ["--threads", "1", "--model", "tiny", "--epochs", "25", "--lr", "0.01", "--augment", "none"]


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def test_pictures_of_ones_own_are_trained_on_evaluated_and_named(
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (pictures / "red" / "notes.txt").write_text("no picture")
    run("train", "--data", "pictures", *QUICK)
    out, err = capsys.readouterr()
    assert "runs/pictures-tiny-0" in out and "test accuracy 100.0%" in out
    assert "left out: pictures/red/notes.txt cannot be read as a picture" in err
    run("evaluate", "runs/pictures-tiny-0")
    out = capsys.readouterr().out
    assert all(colour in out for colour in COLOURS) and "(6 test images of pictures/)" in out
    draw(Path("new.png"), COLOURS["green"], 900, (40, 31))
    run("predict", "new.png", "--checkpoint", "runs/pictures-tiny-0")
    described, _, first, *_ = capsys.readouterr().out.splitlines()
    assert described.startswith("tiny, 8×8, 3 classes of pictures/, ") and "green" in first


def test_a_tenth_of_what_is_learnt_from_is_held_out_and_the_size_is_the_models(
    pictures: Path,
) -> None:
    settings = recipe("pictures", model="tiny")
    assert settings.holdout == 2  # of 24
    assert recipe("pictures", model="tiny", holdout=0).holdout == 0
    assert Settings(data="pictures").folder == Path("runs/pictures-swin_shapes-0")
    train(recipe("pictures", model="tiny", size=12, epochs=1, threads=1, out="run"))
    info = read_checkpoint("run").info
    assert info["data"]["image"] == [3, 12, 12] and info["data"]["images"] == 22
    with pytest.raises(ValueError, match="size is for a folder of pictures, got 12 for shapes"):
        Settings(size=12)


def test_another_folder_is_tested_on_as_a_whole_and_must_have_the_same_classes(
    pictures: Path,
) -> None:
    train(recipe("pictures", model="tiny", epochs=1, threads=1, out="run"))
    for name, colour in COLOURS.items():
        draw(Path("others", name, "1.png"), colour, 77)
        draw(Path("others", name, "2.png"), colour, 78)
    test = evaluate_checkpoint("run", name="others")
    assert (test.name, test.images) == ("others/", 6)
    assert evaluate_checkpoint("run", split="held-out").images == 2
    pictures.rename("elsewhere")  # the folder of the run is not needed for that
    assert evaluate_checkpoint("run", name="others").images == 6
    Path("others", "red").rename("others/pink")
    with pytest.raises(ValueError, match="tells the 3 classes of 'pictures/' apart, not the 3 of"):
        evaluate_checkpoint("run", name="others")


# ── where the pictures are ───────────────────────────────────────────────────────────────────────


def test_the_folder_of_a_run_is_known_again_by_any_path(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(recipe("pictures", model="tiny", epochs=1, threads=1, out="run"))
    export("run", "alone.safetensors")
    Path("link").symlink_to("pictures")
    for path in ("pictures/", "./pictures", str(pictures), "link"):
        assert evaluate_checkpoint("run", name=path).images == 6  # not those that it learnt from
        assert evaluate_checkpoint("run", name=path, split="held-out").images == 2
    Path("away").mkdir()
    monkeypatch.chdir("away")
    assert evaluate_checkpoint("../run").images == 6
    assert "is taken for" not in capsys.readouterr().err
    assert evaluate_checkpoint("../alone.safetensors", name=str(pictures)).images == 6
    pictures.rename("../away/pictures")
    monkeypatch.chdir("..")
    with pytest.raises(
        FileNotFoundError, match=r"evaluate: .* no such folder; say where it is now"
    ):
        evaluate_checkpoint("run")
    assert evaluate_checkpoint("run", name="away/pictures").images == 6
    assert capsys.readouterr().err.count("is taken for the folder that the run learnt from") == 2


def test_a_folder_that_was_renamed_is_known_again_by_the_names_of_its_pictures(
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(recipe("pictures", model="tiny", epochs=1, threads=1, out="run"))
    export("run", "alone.safetensors")
    pictures.rename("photos")
    said = "photos is taken for the folder that the run learnt from, by the names of its pictures"
    for path in ("run", "alone.safetensors"):
        assert evaluate_checkpoint(path, name="photos").images == 6  # the others taught it
        assert capsys.readouterr().err.count(said) == 1
    list_pictures("photos").sides["train"][0][0].unlink()  # of other pictures all are new to it
    assert evaluate_checkpoint("run", name="photos").images == 29
    for file in Path("photos", "red").rglob("*.*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"load: \S+red has no picture"):
        evaluate_checkpoint("run", name="photos")


def test_a_run_goes_on_from_anywhere_and_when_its_pictures_were_moved(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = recipe("pictures", model="tiny", epochs=1, batch_size=4, threads=1, out="whole")
    train(settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(replace(settings, out="broken"))
    shutil.copytree("broken", "second")
    Path("away").mkdir()
    monkeypatch.chdir("away")
    resume("../broken")
    pictures.rename("moved")
    with pytest.raises(FileNotFoundError, match=r"train: .* no such folder; say where it is now"):
        resume("../second")
    assert cli.main(["train", "--resume", "../second", "--data", "moved", "--quiet"]) == 0
    whole, *others = (read_checkpoint(f"../{n}").weights for n in ("whole", "broken", "second"))
    for other in others:
        assert [n for n in whole if whole[n].tobytes() != other[n].tobytes()] == []
    with pytest.raises(ValueError, match="the run learns from 'moved', not from 'cifar10'"):
        resume("../second", data="cifar10")


def test_a_run_does_not_go_on_with_other_classes_or_call_other_pictures_its_own(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        train(recipe("pictures", model="tiny", epochs=1, batch_size=4, threads=1, out="run"))
    (pictures / "blue").rename(pictures / "sky")  # now the last in the order of names
    with pytest.raises(ValueError, match="where 'blue' was, there is 'green' now; give them their"):
        resume("run")
    (pictures / "sky").rename(pictures / "blue")
    for i in range(20, 25):
        draw(pictures / "red" / f"{i}.png", COLOURS["red"], 100 + i)
    for split in ("train", "held-out"):
        with pytest.raises(ValueError, match=r"trained on 22 images of 'pictures/', now there are"):
            evaluate_checkpoint("run", split=split)
    with pytest.raises(ValueError, match="give the folder of the same files with --data"):
        resume("run")


def test_an_exported_run_names_no_folder_of_this_machine(pictures: Path) -> None:
    train(recipe(str(pictures), model="tiny", epochs=1, threads=1, out="run"))
    export("run", "small.safetensors")
    assert str(pictures.parent).encode() not in Path("small.safetensors").read_bytes()
    draw(Path("new.png"), COLOURS["red"], 901)
    assert classifier("small.safetensors")("new.png").shape == (3,)

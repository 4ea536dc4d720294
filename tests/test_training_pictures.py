"""minswin train --data FOLDER: one's own pictures, from weights that were trained before."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data_folders import COLOURS, draw, pictures  # noqa: F401
from tiny_runs import stop_after
from tiny_training import MODEL, no_curves

from minswin import cli, create_model, data
from minswin.data import list_pictures
from minswin.data.folders import digest_of
from minswin.models import SwinTransformer
from minswin.models.registry import CLASSES, MODELS
from minswin.training import (
    Settings,
    load_trained_model,
    loop,
    read_checkpoint,
    recipe,
    resume,
    save_checkpoint,
    train,
)
from minswin.training.checkpoints import LAST, export
from minswin.training.classifiers import classifier
from minswin.training.evaluation import evaluate_checkpoint
from minswin.training.learnt import cuts_to_begin_with
from minswin.training.starting import begin_with, model_of
from minswin.weights import rename
from minswin.weights.files import save_weights

QUICK = ["--threads", "1", "--model", "tiny", "--epochs", "25", "--lr", "0.01", "--augment", "none"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model called "tiny", of 8×8 images; the data are read as they are."""
    monkeypatch.setitem(MODELS, "tiny", {**MODEL, "drop_path_rate": 0.0})
    monkeypatch.setitem(CLASSES, "tiny", SwinTransformer)
    monkeypatch.setattr(loop, "_draw_curves", no_curves)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def test_pictures_of_ones_own_are_trained_on_evaluated_and_named(
    pictures: Path,  # noqa: F811
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
    pictures: Path,  # noqa: F811
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
    pictures: Path,  # noqa: F811
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
    pictures: Path,  # noqa: F811
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
    pictures: Path,  # noqa: F811
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
    pictures: Path,  # noqa: F811
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
    pictures: Path,  # noqa: F811
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


# ── a folder that changes ────────────────────────────────────────────────────────────────────────


def more_red(pictures: Path, first: int, last: int) -> None:  # noqa: F811
    for i in range(first, last):
        draw(pictures / "red" / f"{i}.png", COLOURS["red"], 100 + i)


def stopped(out: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        train(
            recipe("pictures", model="tiny", epochs=1, batch_size=4, threads=1, out=out, **settings)
        )


def test_what_a_run_learnt_from_never_tests_it_when_pictures_come(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = list_pictures(pictures)
    stopped("run", monkeypatch)
    export("run", "alone.safetensors")
    more_red(pictures, 10, 60)
    learnt, tests = before.sides["train"], list_pictures(pictures, cuts=before.cuts).sides["test"]
    assert set(learnt) & set(list_pictures(pictures).sides["test"]) and not set(learnt) & set(tests)
    read: list[Path] = []
    image = data.folders.read_image
    monkeypatch.setattr(
        data.folders, "read_image", lambda file, **how: (read.append(file), image(file, **how))[1]
    )
    for run in ("run", "alone.safetensors"):
        read.clear()
        assert evaluate_checkpoint(run, name="pictures").images == len(tests) == len(read)
        assert {file.resolve() for file in read} == {file for file, _ in tests}
    with pytest.raises(ValueError, match="trained on 22 images of 'pictures/', now there are"):
        resume("run")


def test_a_run_that_begins_with_another_tests_with_nothing_that_this_has_learnt_from(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuts = list_pictures(pictures).cuts
    stopped("first", monkeypatch)
    more_red(pictures, 10, 60)
    stopped("second", monkeypatch, weights="first")
    assert read_checkpoint("second").info["data"]["split"]["cuts"] == cuts
    stopped("third", monkeypatch)  # which begins with nothing
    assert read_checkpoint("third").info["data"]["split"]["cuts"] != cuts
    both = cuts_to_begin_with(replace(recipe("pictures", weights="third"), teacher="first"))
    assert both == {
        name: min(cuts[name], other) for name, other in list_pictures(pictures).cuts.items()
    }
    assert cuts_to_begin_with(recipe("shapes", model="tiny", weights="first")) is None


def test_a_run_does_not_go_on_with_as_many_other_pictures(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped("run", monkeypatch)
    learnt = [file for file, _ in list_pictures(pictures).sides["train"]]
    new = next(n for n in (f"{i}.png" for i in range(99)) if digest_of(n) > "8" and len(n) > 5)
    learnt[0].rename(learnt[0].with_name(new))
    with pytest.raises(ValueError, match=r"train: .* trained on as many pictures of .* other ones"):
        resume("run")
    with pytest.raises(ValueError, match=r"evaluate: .* trained on as many pictures of .* other"):
        evaluate_checkpoint("run", split="held-out")
    learnt[0].with_name(new).rename(learnt[0])
    resume("run")


def test_a_picture_that_was_renamed_may_test_and_that_is_said(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped("run", monkeypatch)
    assert evaluate_checkpoint("run").images == 6
    said = "a picture that was renamed may test now though the run learnt from it"
    assert said not in capsys.readouterr().err
    learnt = list_pictures(pictures).sides["train"][0][0]
    new = next(n for n in (f"{i}.png" for i in range(10, 999)) if digest_of(n) < "02")
    learnt.rename(pictures / "blue" / new)
    assert evaluate_checkpoint("run").images == 7
    assert capsys.readouterr().err.count(said) == 1


def test_a_run_with_a_count_does_not_go_on_when_pictures_have_come(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped("run", monkeypatch, count=20)
    more_red(pictures, 10, 30)
    with pytest.raises(ValueError, match="on other ones: some have come, gone or been renamed;"):
        resume("run")


def test_a_run_of_before_cuts_were_kept_says_what_it_cannot_know(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped("run", monkeypatch)
    old = read_checkpoint("run")
    del old.info["data"]["split"]
    save_checkpoint(Path("run", LAST), old)
    assert evaluate_checkpoint("run").images == 6
    assert "other pictures" not in capsys.readouterr().err
    more_red(pictures, 10, 15)
    assert evaluate_checkpoint("run").images == 7
    said = "may have other pictures than when the run began (28 to learn from, perhaps not all rea"
    assert said in capsys.readouterr().err
    for i in range(10, 15):
        (pictures / "red" / f"{i}.png").unlink()
    assert resume("run").interrupted is None


# ── weights to begin with ────────────────────────────────────────────────────────────────────────


def started(settings: Settings) -> Any:
    """The model of a run before its first step: a learning rate of 0 moves nothing."""
    train(settings)
    return load_trained_model(settings.folder)[0]


def test_a_run_begins_with_the_weights_of_the_package_and_a_head_of_its_own(
    pictures: Path,  # noqa: F811
) -> None:
    settings = recipe(
        "pictures", weights="swin_cifar_small", epochs=1, lr=0.0, threads=1, out="run"
    )
    assert settings.model == "swin_cifar_small"
    state = started(settings).state_dict()
    fresh = create_model("swin_cifar_small", num_classes=3, rng=np.random.default_rng(0))
    begin_with(fresh, "swin_cifar_small")
    assert all(np.array_equal(state[name], x) for name, x in fresh.state_dict().items())
    info = read_checkpoint("run").info
    mean, std = data.STATISTICS["cifar10"]  # the images are normalised as those of the weights
    assert (info["data"]["mean"], info["data"]["std"]) == (list(mean), list(std))


def test_a_run_that_begins_with_another_has_its_settings_of_the_model(
    pictures: Path,  # noqa: F811
) -> None:
    common = {"epochs": 1, "lr": 0.0, "threads": 1}
    own = {"stem": "overlapping", "depths": [1]}
    first = started(recipe("pictures", model="tiny", model_settings=own, out="a", **common))
    again = recipe("pictures", weights="a", out="b", **common)
    assert (again.model, again.model_settings) == ("tiny", own)
    more = recipe("pictures", weights="a", model="tiny", model_settings={"shift": False})
    assert more.model_settings == {**own, "shift": False}  # what is said adds to it
    assert recipe("pictures", weights="a", model="swin_shapes").model_settings is None
    state = started(again).state_dict()
    assert np.array_equal(
        state["patch_embed.proj.weight"], first.state_dict()["patch_embed.proj.weight"]
    )


def test_weights_of_other_implementations_and_of_runs_are_begun_with(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = create_model("tiny", num_classes=7, rng=1)
    save_weights(Path("theirs.safetensors"), rename(first.state_dict(), "minswin", "transformers"))
    common = {"epochs": 1, "lr": 0.0, "threads": 1}
    model = started(
        recipe("pictures", model="tiny", weights="theirs.safetensors", out="a", **common)
    )
    name = "layers.0.blocks.1.attn.qkv.weight"
    assert np.array_equal(model.state_dict()[name], first.state_dict()[name])
    assert model.head.weight.shape[0] == 3
    assert read_checkpoint("a").info["data"]["mean"] == [0.485, 0.456, 0.406]  # ImageNet's
    assert model_of("a") == ("tiny", None)
    second = started(recipe("pictures", weights="a", seed=3, out="b", **common))
    assert second.name == "tiny"
    assert np.array_equal(second.state_dict()[name], first.state_dict()[name])
    with pytest.raises(ValueError, match=r"theirs.safetensors fits .*; say which it is"):
        monkeypatch.delitem(MODELS, "tiny")
        model_of("theirs.safetensors")


def test_a_resumed_run_needs_no_weights_to_begin_with_and_has_the_same_bits(
    pictures: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_weights(Path("start.safetensors"), create_model("tiny", num_classes=7, rng=1).state_dict())
    settings = {"model": "tiny", "weights": "start.safetensors", "epochs": 2, "threads": 1}
    train(recipe("pictures", out="whole", **settings))
    with monkeypatch.context() as patch:
        patch.setattr(loop.Interrupts, "received", lambda self: 2)
        train(recipe("pictures", out="part", **settings))
    assert read_checkpoint(Path("part", LAST)).info["step"] == 0
    Path("start.safetensors").unlink()
    resume("part")
    whole, part = (read_checkpoint(Path(folder, LAST)) for folder in ("whole", "part"))
    assert whole.info["data"] == part.info["data"]
    assert all(np.array_equal(x, part.weights[name]) for name, x in whole.weights.items())


def test_an_exported_run_names_no_folder_of_this_machine(pictures: Path) -> None:  # noqa: F811
    train(recipe(str(pictures), model="tiny", epochs=1, threads=1, out="run"))
    export("run", "small.safetensors")
    assert str(pictures.parent).encode() not in Path("small.safetensors").read_bytes()
    draw(Path("new.png"), COLOURS["red"], 901)
    assert classifier("small.safetensors")("new.png").shape == (3,)

"""A run on a folder of pictures to which some come, or that some leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_pictures import COLOURS, draw
from tiny_runs import stop_after

from minswin import data
from minswin.data import list_pictures
from minswin.data.folders import digest_of
from minswin.training import (
    read_checkpoint,
    recipe,
    resume,
    save_checkpoint,
    train,
)
from minswin.training.checkpoints import LAST, export
from minswin.training.evaluation import evaluate_checkpoint
from minswin.training.learnt import cuts_to_begin_with

pytestmark = pytest.mark.usefixtures("tiny_of_pictures")


def more_red(pictures: Path, first: int, last: int) -> None:
    for i in range(first, last):
        draw(pictures / "red" / f"{i}.png", COLOURS["red"], 100 + i)


def stopped(out: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        train(
            recipe("pictures", model="tiny", epochs=1, batch_size=4, threads=1, out=out, **settings)
        )


def test_what_a_run_learnt_from_never_tests_it_when_pictures_come(
    pictures: Path,
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
    pictures: Path,
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
    pictures: Path,
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
    pictures: Path,
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
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped("run", monkeypatch, count=20)
    more_red(pictures, 10, 30)
    with pytest.raises(ValueError, match="on other ones: some have come, gone or been renamed;"):
        resume("run")


def test_a_run_of_before_cuts_were_kept_says_what_it_cannot_know(
    pictures: Path,
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

"""What cannot be explained is refused in one line, before a model runs."""

from __future__ import annotations

import re
from pathlib import Path

import command_line
import explained
import numpy as np
import pytest
from explained import Image, save

import minswin.explain
from minswin.models import create_model
from minswin.training.checkpoints import pretrained

quick = explained.quick  # the fixture


def refusal(capsys, *arguments):
    err = command_line.refusal(capsys, "explain", *arguments)
    assert err.startswith("minswin: error: explain: "), err
    return err


def test_what_cannot_be_explained_is_refused_in_one_line(capsys, monkeypatch):
    image = str(save("a.png"))
    Path("text.png").write_text("no picture")
    assert "there is no image no.png" in refusal(capsys, "no.png")
    assert "text.png cannot be read as a picture" in refusal(capsys, "text.png")
    assert "there is no folder " in refusal(capsys, image, "-o", "nowhere/a.html")
    assert "unknown model 'swin_tinny'" in refusal(capsys, image, "--model", "swin_tinny")
    assert "nothing" in refusal(capsys, image, "--weights", "nothing")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert "has more than 20 pixels; make it smaller first" in refusal(capsys, image)
    assert not list(Path().glob("*.html"))


def test_weights_of_another_model_are_refused_in_short_with_their_name(capsys):
    path = pretrained()["swin_cifar_small"]
    err = refusal(capsys, str(save("a.png")), "--model", "swin_shapes", "--weights", str(path))
    assert f"explain: {path}: " in err and err.endswith(
        f"'minswin info {path}' says which model it fits\n"
    )
    assert len(err) < 1000
    for names, number in re.findall(
        r"(?:missing|unexpected) \(\d+\): (.*?), … and (\d+) more", err
    ):
        assert len(names.split(", ")) == 3 and int(number) > 0
    assert "unexpected (" in err and " more" in err


def test_an_error_counts_all_that_does_not_fit_and_names_three_of_a_kind():
    model = create_model("vit_tiny")
    names = list(model.state_dict())
    with pytest.raises(ValueError) as error:
        model.load_state_dict({name: np.zeros(1, np.float32) for name in ("a", "b", "c")})
    said = str(error.value)
    assert f"missing ({len(names)}): {', '.join(names[:3])}, … and {len(names) - 3} more;" in said
    assert "unexpected (3): a, b, c. " in said and names[3] not in said


def test_a_folder_without_cifar_is_refused_before_the_model_runs(capsys, monkeypatch):
    def run(*given):
        raise AssertionError("the model ran")

    monkeypatch.setattr(minswin.explain, "predict", run)
    Path("empty").mkdir()
    for folder, said in (
        ("nowhere", "there is no "),
        ("empty", "data_batch_1.bin|test_batch.bin"),
    ):
        err = refusal(capsys, str(save("a.png")), "--data-dir", folder)
        assert re.search(said, err) and folder in err and "--download" not in err


def test_a_run_that_is_to_be_drawn_beside_is_looked_for_first(capsys, monkeypatch):
    monkeypatch.setattr(minswin.explain, "predict", None)
    assert "nothing" in refusal(capsys, str(save("a.png")), "--beside", "nothing")

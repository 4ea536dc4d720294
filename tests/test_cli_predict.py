"""`minswin predict`: the classes of pictures."""

from __future__ import annotations

import re
import sys

import command_line
from command_line import refusal
from tiny_training import tiny_load

from minswin import cli

tiny, trained = command_line.tiny, command_line.trained  # the fixtures


def test_predict_names_the_colour_of_a_picture(capsys, trained, tmp_path):
    from PIL import Image

    pixels = tiny_load("shapes", split="test")
    for index in range(3):
        kind = ("red", "green", "blue")[pixels.labels[index]]
        picture = Image.fromarray(pixels.images[index].transpose(1, 2, 0))
        picture.resize((40, 24), Image.Resampling.NEAREST).save(tmp_path / "picture.png")
        assert cli.main(["predict", "picture.png", "--checkpoint", str(trained), "--top", "2"]) == 0
        about, only, *lines = capsys.readouterr().out.splitlines()
        assert "cannot say 'none of these'" in only
        assert re.fullmatch(r"tiny, 8×8, 3 classes of shapes, .*% of the test images right", about)
        assert len(lines) == 2 and lines[0].split()[0] == kind
        shares = [float(line.split()[-1].rstrip("%")) for line in lines]
        assert shares[0] > 100 / 3 and shares[0] > shares[1] > 0


def test_predict_names_several_pictures_and_one_that_is_broken_stops_no_other(
    capsys, trained, tmp_path
):
    from PIL import Image

    for name, colour in (("a.png", (255, 0, 0)), ("c.png", (0, 0, 255))):
        Image.new("RGB", (9, 9), colour).save(name)
    arguments = ["predict", "a.png", "b.png", "c.png", "--checkpoint", str(trained), "--top", "1"]
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("tiny, 8×8, 3 classes") and out.count("tiny,") == 1
    assert "cannot say 'none of these'" in lines[1] and out.count("none of these") == 1
    assert lines[2:4] == ["", "a.png"] and lines[4].startswith("red ")
    assert lines[5:7] == ["", "c.png"] and lines[7].startswith("blue ")
    assert err == "minswin: error: predict: there is no image b.png; give the path of a picture\n"


def test_predict_says_what_is_wrong_with_its_picture(capsys, trained, tmp_path, monkeypatch):
    there = ["--checkpoint", str(trained)]
    assert "there is no image no.png" in refusal(capsys, "predict", "no.png", *there)
    (tmp_path / "text.png").write_text("no picture")
    message = refusal(capsys, "predict", "text.png", *there)
    assert "text.png cannot be read as a picture" in message
    monkeypatch.setitem(sys.modules, "PIL", None)
    message = refusal(capsys, "predict", "text.png", *there)
    assert 'pillow is missing; pip install "minswin[plot]"' in message

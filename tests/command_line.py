"""What the tests of commands share: a tiny model and its data, a finished run, an error."""

from __future__ import annotations

from functools import cache

import pytest
from tiny_training import install

from minswin import cli

TRAIN = ["train", "--model", "tiny", "--epochs", "2", "--batch-size", "8", "--threads", "1"]
TRAIN += ["--holdout", "0"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """The tiny model and its data, in a folder that is empty."""
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINSWIN_TRACEBACK", raising=False)


def refusal(capsys, *arguments):
    """The one line that a command prints when it fails."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as leaving:
        status = leaving.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ""
    assert err.startswith("minswin: error: ") and err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run, one for all files: no test changes it."""
    return _trained(tmp_path_factory.getbasetemp())


@cache
def _trained(place):
    folder = place / "trained" / "run"
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        recipe = ["--optimizer", "sgd", "--lr", "0.1", "--clip", "5", "--epochs", "15"]
        assert cli.main([*TRAIN, "-o", str(folder), *recipe]) == 0
    return folder

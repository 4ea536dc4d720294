"""What differs between ranks is found before the first step, and named in all of them."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO

import pytest
import ranks
import tiny_training
from rank_runs import train
from tiny_training import tiny_settings

from minswin.training.ranks import require_same_run, require_same_start, require_same_weights
from minswin.training.run import Run


def differing(group, folder, what):
    """The error of a rank whose run has one thing that rank 0 has otherwise."""
    tiny_training.install()
    mine = group.rank == group.size - 1
    with pytest.MonkeyPatch.context() as patch:
        if what == "version" and mine:
            patch.setattr("minswin.training.ranks.VERSION", "0.0.1")
        changes = {"lr": {"lr": 0.02}, "seed": {"seed": 5}}.get(what, {}) if mine else {}
        settings = tiny_settings(folder, **changes)
        try:
            require_same_start(group, settings)
            run = Run(settings, group=group)
            if what == "data" and mine:
                run.train_set.images[3, 0, 0, 0] ^= 1
            if what == "test data" and mine:
                run.test_set.labels[3] = (run.test_set.labels[3] + 1) % 3
            if what == "weights" and mine:
                next(run.model.parameters()).data += 1
            require_same_run(run)
            if what == "memory" and mine:
                list(run.model.parameters())[3].data.flat[0] += 1e-7
            require_same_weights(run)
        except ValueError as error:
            return str(error)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("lr", "rank 1 has lr 0.02, and rank 0 has 0.01; start all ranks with the same settings"),
        ("seed", "rank 1 has seed 5, and rank 0 has 0"),
        ("version", "rank 1 has minswin '0.0.1'"),
        ("data", "rank 1 has the training images '60 with check sum"),
        ("test data", "rank 1 has the test images '33 with check sum"),
        ("memory", "of rank 1 has other bits than that of rank 0; not saved"),
        ("weights", None),  # they are those of rank 0 from there on
    ],
)
def test_what_differs_is_named_in_all_ranks(tmp_path, what, message):
    first, second = ranks.run(2, differing, str(tmp_path), what)
    assert first == second
    assert first is None if message is None else message in first


def test_more_ranks_than_images_of_a_batch_is_an_error_that_all_share_once(tmp_path):
    done = train(3, tmp_path / "run", batch_size=2)
    assert done.returncode == 2
    assert done.stderr.count("minswin: error:") == 1
    assert "3 ranks share a batch of 2 images; start 2 ranks at most" in done.stderr


def unequal(group):
    """What rank 0 says of the cores of two ranks."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
        patch.setattr("minswin.training.ranks.cores", lambda: 2 + 2 * group.rank)
        require_same_start(group, tiny_settings("here"))
    return said.getvalue()


def test_ranks_of_unequal_cores_are_named(tmp_path):
    first, second = ranks.run(2, unequal)
    assert "the ranks have 2, 4 cores" in first and second == ""

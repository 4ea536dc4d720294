"""Equal settings give equal bits, whatever a run computes again, or saves on its way."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_runs
from tiny_runs import arrays, assert_same_run, records
from tiny_training import tiny_settings

from minswin import ops
from minswin.training import fit, train
from minswin.training.checkpoints import LAST, read_checkpoint
from minswin.training.folder import Folder
from minswin.training.run import Run
from minswin.training.updates import Updates

tiny = tiny_runs.tiny  # the fixture


def test_equal_settings_give_equal_bits_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny_settings(tmp_path / name, seed=seed, epochs=1, threads=2))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    a, c = arrays(tmp_path / "a" / LAST), arrays(tmp_path / "c" / LAST)
    assert not np.array_equal(a["weights/head.weight"], c["weights/head.weight"])


def test_a_run_makes_the_steps_of_fit(tmp_path):
    """The same model, batches, loss, optimizer and rates in `fit` give the same bits."""
    settings = tiny_settings(tmp_path, epochs=1, ema=0.0)
    train(settings, quiet=True)
    run = Run(settings)
    losses = fit(
        run.model,
        run.batches.epoch(0),
        lambda logits, targets: ops.cross_entropy(logits, targets, smoothing=settings.smoothing),
        optimizer=run.optimizer,
        lr=run.learning_rate,
        clip=settings.clip,
    )
    assert list(losses) == [line["loss"] for line in records(tmp_path, "step")]
    saved = read_checkpoint(tmp_path).weights
    assert all(np.array_equal(saved[n], a) for n, a in run.model.state_dict().items())
    run.close()


def test_a_run_that_recomputes_its_blocks_has_the_same_weights_bit_for_bit(tmp_path):
    train(tiny_settings(tmp_path / "a", epochs=1, threads=2))
    train(tiny_settings(tmp_path / "b", epochs=1, threads=2, recompute=True))
    plain, again = (arrays(tmp_path / name / LAST) for name in "ab")
    assert plain.keys() == again.keys()
    assert [n for n in plain if plain[n].tobytes() != again[n].tobytes()] == []
    assert read_checkpoint(tmp_path / "b").info["model"]["settings"]["recompute"] is True


@pytest.mark.parametrize("threads", [1, 2])
def test_saving_changes_neither_the_random_state_nor_the_mode_nor_the_gradients(tmp_path, threads):
    run = Run(tiny_settings(tmp_path, threads=threads))
    saved = Folder.begin(run)
    run.model.train()
    run.model.norm.eval()  # frozen
    Updates(run).differentiate(*run.batches.batch(0, 0))
    rng, modes = run.model.rng.bit_generator.state, [m.training for m in run.model.layers_within()]
    gradients = [p.grad for p in run.model.parameters()]
    saved.save(LAST)
    assert run.model.rng.bit_generator.state == rng
    assert [m.training for m in run.model.layers_within()] == modes
    assert all(p.grad is g for p, g in zip(run.model.parameters(), gradients, strict=True))
    saved.close()
    run.close()

"""The loop: it learns, keeps its books, and stops when it is told to or when it must."""

from __future__ import annotations

import signal
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny_training import DRAW_CURVES, install, tiny_load, tiny_settings

from minswin import data, kernels, ops
from minswin.data import Batches
from minswin.data.ahead import ahead
from minswin.look.curves import draw_accuracy, draw_loss
from minswin.models import list_models
from minswin.training import (
    RECIPES,
    Diverged,
    Evaluation,
    Settings,
    evaluate,
    fit,
    load_trained_model,
    loop,
    recipe,
    resume,
    train,
    warmup_cosine,
)
from minswin.training.checkpoints import BEST, LAST, read_checkpoint
from minswin.training.folder import FILES, Folder
from minswin.training.inputs import evaluation_batches, training_batches
from minswin.training.progress import Journal, Progress, read_journal
from minswin.training.run import Run
from minswin.training.updates import Updates

CLOCK = ("images_per_second",)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    install(monkeypatch)


def records(folder, kind=None):
    """The log without what the clock decides."""
    lines = [r for r in read_journal(folder / "log.jsonl") if kind in (None, r["kind"])]
    return [{k: v for k, v in line.items() if k not in (*CLOCK, "out")} for line in lines]


def arrays(path):
    checkpoint = read_checkpoint(path)
    groups = ("weights", "optimizer", "average")
    return {f"{g}/{n}": a for g in groups for n, a in getattr(checkpoint, g).items()}


def assert_same_run(one, other):
    """Weights, optimizer, average, random state, best epoch and log agree, bit for bit."""
    for name in (LAST, BEST):
        ours, theirs = arrays(one / name), arrays(other / name)
        assert ours.keys() == theirs.keys()
        assert [n for n in ours if ours[n].tobytes() != theirs[n].tobytes()] == []
        infos = [read_checkpoint(folder / name).info for folder in (one, other)]
        for key in ("rng", "epoch", "step", "accuracy", "best_accuracy", "totals", "average_step"):
            assert infos[0][key] == infos[1][key], key
    assert records(one) == records(other)


def stop_after(monkeypatch, step, number=signal.SIGINT):
    """Send this process a signal as soon as `step` updates are made."""
    count = Run.count

    def counting(run, *arguments):
        right = count(run, *arguments)
        if run.step == step:
            signal.raise_signal(number)
        return right

    monkeypatch.setattr(Run, "count", counting)


# ── learning and keeping books ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("adamw", 0.02), ("muon", 0.02)])
def test_a_small_swin_learns_the_three_colours(tmp_path, optimizer, lr, capsys):
    plain = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0, "epochs": 15, "ema": 0.0, "clip": 1.0}
    result = train(tiny_settings(tmp_path, optimizer=optimizer, lr=lr, **plain))
    assert result.test_accuracy > 0.9
    assert result.steps == 15 * 7 and result.epochs == 15 and result.interrupted is None
    assert capsys.readouterr().out.count("test accuracy") == 15


def test_the_log_has_every_step_once_with_its_rate_and_every_epoch(tmp_path):
    settings = tiny_settings(tmp_path, warmup=0.5)
    train(settings)
    assert [r["step"] for r in records(tmp_path, "step")] == list(range(1, 22))
    assert [(r["step"], r["epoch"]) for r in records(tmp_path, "epoch")] == [
        (7, 1),
        (14, 2),
        (21, 3),
    ]
    schedule = {"steps": 21, "warmup": 4, "base": 0.01, "start": 1e-4, "final": 1e-4}
    want = [warmup_cosine(step, **schedule) for step in range(21)]
    assert [r["lr"] for r in records(tmp_path, "step")] == want
    assert [r["lr"] for r in records(tmp_path, "epoch")] == [want[6], want[13], want[20]]
    run = records(tmp_path, "run")
    assert len(run) == 1 and run[0]["model"] == "tiny" and run[0]["seed"] == 0


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(tmp_path):
    train(tiny_settings(tmp_path, epochs=2))
    steps = records(tmp_path, "step")
    for epoch in records(tmp_path, "epoch"):
        own = [r for r in steps if r["epoch"] == epoch["epoch"]]
        assert epoch["loss"] == pytest.approx(np.mean([r["loss"] for r in own]), rel=1e-12)
        assert epoch["accuracy"] == pytest.approx(np.mean([r["accuracy"] for r in own]))


def test_the_evaluations_are_those_of_the_averaged_weights(tmp_path):
    train(tiny_settings(tmp_path, epochs=1))
    model, _ = load_trained_model(tmp_path / LAST)
    result = evaluate(model, evaluation_batches(tiny_load("shapes", split="test")))
    (epoch,) = records(tmp_path, "epoch")
    assert epoch["evaluation_loss"] == pytest.approx(result.loss, rel=1e-6)
    checkpoint = read_checkpoint(tmp_path / LAST)
    model.load_state_dict(checkpoint.weights)
    own = evaluate(model, evaluation_batches(tiny_load("shapes", split="test")))
    assert abs(own.loss - result.loss) > 1e-4


def test_the_best_epoch_is_chosen_by_the_held_out_images_and_then_tested(tmp_path, monkeypatch):
    seen = iter([0.9, 0.9, 0.2, 0.4])
    monkeypatch.setattr(Run, "evaluate", lambda run: Evaluation(1.0, next(seen), np.zeros(3)))
    result = train(tiny_settings(tmp_path, holdout=20, epochs=4, lr=0.1, ema=0.0))
    epochs = records(tmp_path, "epoch")
    assert {r["evaluated_on"] for r in epochs} == {"held-out"}
    assert epochs[0]["step"] == 40 // 8  # the held-out images were not trained on
    assert result.best_accuracy == 0.9 == read_checkpoint(tmp_path / BEST).info["best_accuracy"]
    assert read_checkpoint(tmp_path / BEST).info["epoch"] == 1  # the first of two equal ones
    best, last = (
        evaluate(load_trained_model(path)[0], evaluation_batches(tiny_load("shapes", split="test")))
        for path in (tmp_path, tmp_path / LAST)
    )
    assert best.accuracy != last.accuracy
    assert result.test_accuracy == best.accuracy == records(tmp_path, "test")[0]["accuracy"]


def test_equal_settings_give_equal_bits_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny_settings(tmp_path / name, seed=seed, epochs=1, threads=2))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    a, c = arrays(tmp_path / "a" / LAST), arrays(tmp_path / "c" / LAST)
    assert not np.array_equal(a["weights/head.weight"], c["weights/head.weight"])


def test_curves_are_drawn_and_a_missing_matplotlib_is_only_a_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_draw_curves", DRAW_CURVES)
    train(tiny_settings(tmp_path / "with", epochs=1))
    assert (tmp_path / "with" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train(tiny_settings(tmp_path / "without", epochs=1))
    assert 'no curves.png: matplotlib is missing; pip install "minswin[plot]"' in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "without" / "curves.png").exists()


def test_nothing_after_the_last_checkpoint_hides_the_result(tmp_path, monkeypatch, capsys):
    def broken(*arguments, **settings):
        raise RuntimeError("no backend")

    log = Progress.log
    full = OSError(28, "No space left on device")

    def log_until_full(progress, kind, **record):
        if kind == "test":
            raise full
        log(progress, kind, **record)

    monkeypatch.setattr(loop, "_draw_curves", DRAW_CURVES)
    monkeypatch.setattr("minswin.look.curves.save_curves", broken)
    monkeypatch.setattr(Progress, "log", log_until_full)
    result = train(tiny_settings(tmp_path, epochs=1, holdout=20))
    assert result.test_accuracy is not None and result.epochs == 1
    out = capsys.readouterr().out
    assert "no curves.png: no backend\n" in out and f"no entry in the log: {full}\n" in out


# ── stopping and continuing ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_stopped_after_any_step_ends_like_the_unbroken_one(tmp_path, monkeypatch, threads):
    settings = {
        "epochs": 2,
        "count": 32,
        "threads": threads,
    }  # four steps each; saved after 3 and 6
    train(tiny_settings(tmp_path / "whole", **settings))
    for step in range(1, 8) if threads == 1 else (3, 4, 5):
        folder = tmp_path / f"stopped {step}"
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            result = train(tiny_settings(folder, **settings))
        assert result.interrupted == signal.SIGINT and result.steps == step
        assert read_checkpoint(folder).info["step"] == step
        assert resume(folder).interrupted is None
        assert_same_run(tmp_path / "whole", folder)


def test_a_run_by_muon_continues_bit_for_bit(tmp_path, monkeypatch):
    settings = {"epochs": 2, "optimizer": "muon"}
    train(tiny_settings(tmp_path / "whole", **settings))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        train(tiny_settings(tmp_path / "stopped", **settings))
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_that_lost_its_newest_steps_repeats_them_without_logging_twice(tmp_path, monkeypatch):
    train(tiny_settings(tmp_path / "whole"))

    class Killed(BaseException):
        pass

    def dying(run, *arguments, step):
        if step == 11:  # two steps after the last checkpoint
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "require_finite", dying)
        train(tiny_settings(tmp_path / "killed"))
    assert read_checkpoint(tmp_path / "killed").info["step"] == 9
    assert records(tmp_path / "killed", "step")[-1]["step"] == 11
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_only_the_last_checkpoint_is_resumed_so_that_a_later_one_is_never_lost(tmp_path):
    train(tiny_settings(tmp_path, epochs=1))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"best\.safetensors may be older .* --resume \S+\Z"):
        resume(tmp_path / BEST)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_is_not_resumed_with_other_kernels(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    mine = kernels.chosen(np.zeros(1))
    assert read_checkpoint(tmp_path).info["kernels"] == mine
    other = "reference" if mine == "numba" else "numba"
    message = f"with the kernels '{mine}', now '{other}' are chosen; .*MINSWIN_KERNELS={mine}"
    with kernels.using(other), pytest.raises(ValueError, match=message):
        resume(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_is_not_resumed_with_another_number_of_images(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fewer(*arguments, **settings):
        return tiny_load(*arguments, **settings).subset(slice(57))

    monkeypatch.setattr(data, "load", fewer)
    with pytest.raises(
        ValueError, match=r"on 60 images of 'shapes', now there are 57; .*--data-dir"
    ):
        resume(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    settings = tiny_settings(tmp_path / "a", epochs=1, holdout=20)
    first = train(settings)
    train(tiny_settings(tmp_path / "b", epochs=1, holdout=20))
    again = resume(tmp_path / "a" / LAST)
    assert again.test_accuracy == first.test_accuracy
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_run_that_was_moved_continues_in_its_new_place(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        train(tiny_settings(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert resume(tmp_path / "new").folder == tmp_path / "new"
    assert not (tmp_path / "old").exists()


def test_a_run_that_recomputes_its_blocks_has_the_same_weights_bit_for_bit(tmp_path):
    train(tiny_settings(tmp_path / "a", epochs=1, threads=2))
    train(tiny_settings(tmp_path / "b", epochs=1, threads=2, recompute=True))
    plain, again = (arrays(tmp_path / name / LAST) for name in "ab")
    assert plain.keys() == again.keys()
    assert [n for n in plain if plain[n].tobytes() != again[n].tobytes()] == []
    assert read_checkpoint(tmp_path / "b").info["model"]["settings"]["recompute"] is True


def test_batches_are_made_in_a_thread_ahead_of_the_steps(tmp_path, monkeypatch):
    makers, batch = [], Batches.batch

    def watching(batches, epoch, step):
        makers.append((threading.current_thread().name, epoch, step))
        return batch(batches, epoch, step)

    monkeypatch.setattr(Batches, "batch", watching)
    train(tiny_settings(tmp_path, epochs=2, checkpoint_every=0))
    places = [place for name, *place in makers if name.startswith("minswin-data")]
    assert [place for place in places if place[0] < 2] == [[e, i] for e in (0, 1) for i in range(7)]
    assert not any(t.name.startswith("minswin-data") for t in threading.enumerate())


def test_the_number_of_workers_changes_no_bit_of_a_run(tmp_path, monkeypatch):
    asked = []

    def noting(*inputs, workers):
        asked.append(workers)
        return ahead(*inputs, workers=workers)

    monkeypatch.setattr("minswin.training.run.ahead", noting)
    for workers in (1, 3):
        train(tiny_settings(tmp_path / str(workers), epochs=1, workers=workers))
    assert asked == [1, 3]
    one, three = (arrays(tmp_path / name / LAST) for name in "13")
    assert {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in three.items()}


def test_an_error_in_a_worker_ends_the_run(tmp_path, monkeypatch):
    batch = Batches.batch

    def spoilt(batches, epoch, step):
        if step == 4:
            raise OSError("no such picture")
        return batch(batches, epoch, step)

    monkeypatch.setattr(Batches, "batch", spoilt)
    with pytest.raises(OSError, match="no such picture"):
        train(tiny_settings(tmp_path, workers=3, checkpoint_every=0))
    assert [line["step"] for line in records(tmp_path, "step")] == [1, 2, 3, 4]
    assert not any(t.name.startswith("minswin-data") for t in threading.enumerate())


def test_signals_act_as_usual_again_after_a_run_and_after_the_first_one(tmp_path, monkeypatch):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    before = signal.getsignal(signal.SIGINT)
    count = Run.count

    def twice(run, *arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return count(run, *arguments)

    monkeypatch.setattr(Run, "count", twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_settings(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, usual)


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


# ── what must not go on ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_before_the_weights_change(
    tmp_path, monkeypatch, what
):
    differentiate, seen = Updates._forward_backward, []

    def broken(updates, *batch):
        numbers = differentiate(updates, *batch)  # loss, right answers, length of the gradient
        seen.append({n: p.data.copy() for n, p in updates.run.model.named_parameters()})
        if len(seen) == 6:
            numbers[0 if what == "loss" else 2] = np.nan if what == "loss" else np.inf
        broken.model = updates.run.model
        return numbers

    monkeypatch.setattr(Updates, "_forward_backward", broken)
    message = (
        rf"train: (the loss became nan|a gradient became inf) in epoch 1, step 6 \(lr .*\); this "
        rf"update was not made\. Try a smaller --lr \(say 0\.0025\).*last good checkpoint.*{LAST}"
    )
    with pytest.raises(Diverged, match=message):
        train(tiny_settings(tmp_path))
    now = broken.model.state_dict()
    assert all(np.array_equal(now[n], a) for n, a in seen[-1].items())
    assert read_checkpoint(tmp_path).info["step"] == 3


def test_a_learning_rate_far_too_high_is_reported_not_trained_on(tmp_path):
    with pytest.raises(Diverged, match="Try a smaller --lr"):
        train(tiny_settings(tmp_path, optimizer="sgd", lr=1e20, clip=0.0, warmup=0))
    assert np.isfinite(read_checkpoint(tmp_path).weights["head.weight"]).all()


def test_what_is_called_the_last_good_checkpoint_has_a_loss(tmp_path):
    settings = tiny_settings(
        tmp_path, lr=1e30, clip=0.0, warmup=0, checkpoint_every=1, ema=0.0, augment="none"
    )
    with pytest.raises(Diverged, match=r"not saved.*last good checkpoint is .*last\.safetensors"):
        train(settings)
    assert not (tmp_path / BEST).exists()
    model, info = load_trained_model(tmp_path / LAST)
    result = evaluate(model, evaluation_batches(tiny_load("shapes", split="train")))
    assert np.isfinite(result.loss) and info["step"] == 0


@pytest.mark.parametrize("group", ["weights", "optimizer", "average"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_saved(tmp_path, group, value):
    run = Run(tiny_settings(tmp_path))
    saved = Folder.begin(run)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    part = {"weights": run.model, "optimizer": run.optimizer, "average": run.average}[group]
    name = {"optimizer": "square.head.weight"}.get(group, "head.weight")
    part.state_dict()[name][1, 2] = value
    for file in (LAST, BEST):
        with pytest.raises(Diverged, match=f"'{name}' .*no longer finite.*not saved"):
            saved.save(file)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    saved.close()
    run.close()


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


def test_an_evaluation_without_a_loss_stops_the_run_and_is_not_the_best(tmp_path, monkeypatch):
    seen = iter([1.0, float("nan")])

    def broken(*arguments, **settings):
        return Evaluation(next(seen), 0.5, np.zeros(3))

    monkeypatch.setattr("minswin.training.run.evaluate", broken)
    message = r"the loss of the 33 images .* epoch 2, step 14.* Try a smaller --lr"
    with pytest.raises(Diverged, match=message):
        train(tiny_settings(tmp_path))
    assert read_checkpoint(tmp_path / BEST).info["epoch"] == 1
    assert read_checkpoint(tmp_path / LAST).info["step"] == 12


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_loaded(tmp_path, monkeypatch):
    def load(*arguments, **settings):
        raise AssertionError("the data was loaded first")

    monkeypatch.setattr(data, "load", load)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to the folder .*file.runs .*another .*--out"):
        train(tiny_settings(tmp_path / "file" / "runs"))


def test_a_finished_run_is_not_overwritten_unless_asked(tmp_path):
    train(tiny_settings(tmp_path, epochs=2))
    before = arrays(tmp_path / LAST)
    with pytest.raises(FileExistsError, match=r"already holds a run; continue it with --resume "):
        train(tiny_settings(tmp_path, epochs=1))
    assert all(np.array_equal(a, before[n]) for n, a in arrays(tmp_path / LAST).items())
    train(tiny_settings(tmp_path, epochs=1, seed=3), overwrite=True)
    assert len(records(tmp_path, "epoch")) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_folder_with_any_file_of_a_run_is_not_used_unless_asked(tmp_path, name):
    (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(FileExistsError, match=rf"already holds (a run|{name}).*--overwrite.*--out"):
        train(tiny_settings(tmp_path, epochs=1))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"kept"


def no_data(*arguments, **settings):
    raise FileNotFoundError("load: there is no data")


@pytest.mark.parametrize(
    "why", ["unknown model", "no data", "no data for the test", "batch too large", "kernels"]
)
def test_a_start_that_fails_takes_nothing_away_and_leaves_nothing_behind(
    tmp_path, monkeypatch, why
):
    used, fresh = tmp_path / "used", tmp_path / "fresh" / "deep"
    train(tiny_settings(used, epochs=1))
    (tmp_path / "empty").mkdir()
    before = {p.name: p.read_bytes() for p in used.iterdir()}
    wrong = {"unknown model": {"model": "tinny"}, "batch too large": {"batch_size": 61}}.get(
        why, {}
    )
    if why == "no data":
        monkeypatch.setattr(data, "load", no_data)
    if why == "no data for the test":
        monkeypatch.setattr(
            data, "load", lambda *a, **k: (no_data if k["split"] == "test" else tiny_load)(*a, **k)
        )
    if why == "kernels":
        monkeypatch.setattr("minswin.kernels._environment", "abacus")
    for folder in (used, fresh, tmp_path / "empty"):
        with pytest.raises((ValueError, FileNotFoundError)):
            train(tiny_settings(folder, **wrong), overwrite=True)
    assert {p.name: p.read_bytes() for p in used.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "used"]


def test_too_few_images_for_one_batch_is_said(tmp_path):
    with pytest.raises(ValueError, match="there are 8 training images, fewer than one batch of 9"):
        train(tiny_settings(tmp_path, batch_size=9, holdout=52))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"data": "imagenet"},
            "data must be one of shapes, .*, or a folder .* class, got 'imagenet'",
        ),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, muon; got 'adam'"),
        ({"epochs": 0}, "epochs must be a whole number of 1 or more, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of 1 or more, got 2.5"),
        ({"lr": float("nan")}, "lr must be a number of 0 or more, got nan"),
        ({"smoothing": 1.0}, "smoothing must be 0 or more and below 1, got 1.0"),
        ({"epochs": 3, "warmup": 4.0}, "warmup must be 0 to 3 epochs, got 4.0"),
        ({"count": 3, "batch_size": 4}, "count must be 4 or more, got 3"),
        ({"piece": 24}, "piece and piece_epochs belong together, .*; got 24 and 0"),
        ({"piece_epochs": 3}, "piece and piece_epochs belong together, .*; got 0 and 3"),
        (
            {"model_settings": {"stem": "patches", "img_size": 8}},
            "img_size of the model follows from the images, got 8; leave it out",
        ),
        ({"seed": True}, "seed must be a whole number of 0 or more, got True"),
    ],
)
def test_a_bad_setting_is_named(setting, message):
    with pytest.raises(ValueError, match=f"Settings: {message}"):
        Settings(**setting)


def test_pieces_are_shown_in_the_first_epochs_of_a_run(tmp_path):
    settings = tiny_settings(tmp_path, piece=6, piece_epochs=2)
    batches = training_batches(tiny_load("shapes", split="train"), settings)
    assert [batches.batch(epoch, 0)[0].shape[2:] for epoch in range(3)] == [(6, 6), (6, 6), (8, 8)]
    assert train(settings).epochs == 3


def test_a_model_that_takes_no_pieces_is_refused_before_anything_is_written(tmp_path):
    settings = tiny_settings(tmp_path / "run", model="vit_cifar", piece=4, piece_epochs=1)
    with pytest.raises(ValueError, match="vit_cifar does not take pieces of 4×4; leave out piece"):
        train(settings)
    assert list(tmp_path.iterdir()) == []


def test_every_recipe_is_valid_and_names_a_model(tmp_path):
    for name in RECIPES.keys() - {"folder"}:
        assert recipe(name).model in list_models()
        assert recipe(name, epochs=50).epochs == 50
    assert recipe("cifar10", epochs=2).warmup == pytest.approx(0.2)
    assert recipe("cifar10", epochs=2, warmup=1.5).warmup == 1.5
    assert recipe("cifar10", count=2_000).holdout == 200
    assert recipe("cifar10", count=2_000, holdout=0).holdout == 0
    known = "unknown setting 'learning_rate'; known are alpha, augment, "
    with pytest.raises(ValueError, match=known):
        recipe("shapes", learning_rate=1)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────


def test_a_log_opened_at_a_position_forgets_what_came_after(tmp_path):
    journal = Journal(tmp_path / "log")
    journal.write(kind="a", value=1)
    position = journal.position
    journal.write(kind="b", value=float("nan"))
    journal.close()
    assert read_journal(tmp_path / "log") == [
        {"kind": "a", "value": 1},
        {"kind": "b", "value": None},
    ]
    again = Journal(tmp_path / "log", position=position)
    again.write(kind="c")
    again.close()
    assert [r["kind"] for r in read_journal(tmp_path / "log")] == ["a", "c"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_log_on_a_full_disk_is_named_and_can_be_closed():
    journal = Journal("/dev/full")
    with pytest.raises(
        OSError, match=r"train: cannot write the log /dev/full \(No space left.*--res"
    ):
        journal.write(kind="a")
    journal.close()


def test_a_log_that_ends_in_half_a_line_is_read_up_to_there(tmp_path):
    (tmp_path / "log").write_text('{"kind": "a"}\n{"kin')
    assert read_journal(tmp_path / "log") == [{"kind": "a"}]
    (tmp_path / "log").write_text('{"kin\n{"kind": "a"}\n')
    with pytest.raises(ValueError, match=r"log line 1 is not JSON .*; remove that line"):
        read_journal(tmp_path / "log")


def test_steps_are_logged_in_order(tmp_path):
    train(tiny_settings(tmp_path, log_every=2, epochs=2))
    assert [r["step"] for r in records(tmp_path, "step")] == [2, 4, 6, 8, 10, 12, 14]
    assert all(a["step"] <= b["step"] for a, b in pairwise(records(tmp_path)[1:]))


def test_the_curves_are_drawn_into_the_axes_that_are_given(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    train(tiny_settings(tmp_path, epochs=2, holdout=20))
    left, right = figure.subplots(1, 2)
    lines = read_journal(tmp_path / "log.jsonl")
    assert draw_loss(left, lines) is left and draw_accuracy(right, lines) is right
    steps, training, held_out = left.get_lines()
    assert len(steps.get_xdata()) == 10 and steps.get_xdata()[-1] == 2.0
    assert list(training.get_xdata()) == [0.5, 1.5] and list(held_out.get_xdata()) == [1, 2]
    assert list(held_out.get_ydata()) == [r["evaluation_loss"] for r in records(tmp_path, "epoch")]
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["training", "held-out"]
    empty = figure.add_subplot()
    assert draw_loss(empty, []).get_xlabel() == "step"  # a run that logged nothing yet

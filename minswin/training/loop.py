"""The training loop: forward, cross-entropy, backward, clip, update; evaluate; save."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minswin.arrays import Array
from minswin.data.ahead import ahead
from minswin.devices import working_on
from minswin.replacing import require_folder
from minswin.training.checkpoints import BEST, LAST, find_run, read_checkpoint
from minswin.training.evaluate import quiet
from minswin.training.interrupts import Interrupts
from minswin.training.journal import read_journal
from minswin.training.optimizers import clip_gradients
from minswin.training.progress import Progress
from minswin.training.run import CURVES, FILES, LOG, Run
from minswin.training.settings import Settings
from minswin.training.steps import LateSteps, Made, right_answers


@dataclass(frozen=True)
class Result:
    """What a run came to. `interrupted` is the number of the signal that stopped it, or None."""

    folder: Path
    epochs: int
    steps: int
    best_accuracy: float | None
    test_accuracy: float | None  # of the last epoch, or of the best where images were held out
    interrupted: int | None
    seconds: float


def train(settings: Settings, *, overwrite: bool = False, quiet: bool = False) -> Result:
    """Train a model from its beginning; `resume` continues a run that was stopped."""
    require_folder(settings.folder, who="train")
    if not overwrite:
        _require_unused(settings.folder)
    with working_on(settings.device), closing(Run(settings)) as run:
        run.begin()
        return _train(run, quiet)


def resume(path: Path | str, *, quiet: bool = False, **moved: Any) -> Result:
    """Continue the run in a folder where its last checkpoint stands, bit for bit.

    moved: `data_dir`, `download`, `teacher`, `device`: the settings that may differ from those it
    began with. On another kind of device the numbers are rounded differently from there on.
    """
    file = find_run(path)
    if file.name != LAST and file.exists():
        raise ValueError(
            f"train: {file} may be older than the end of its run, which would be overwritten; "
            f"continue from the last checkpoint with --resume {file.parent}"
        )
    checkpoint = read_checkpoint(file)
    settings = Settings(**{**checkpoint.info["settings"], **moved, "out": str(file.parent)})
    require_folder(settings.folder, who="train")
    with working_on(settings.device), closing(Run(settings)) as run:
        run.restore(checkpoint, file)
        return _train(run, quiet)


def _train(run: Run, quiet: bool) -> Result:
    began, settings = time.perf_counter(), run.settings
    late = LateSteps(run) if run.alone else None
    with Interrupts() as interrupts, closing(Progress(run, quiet=quiet)) as progress:
        while run.epoch < settings.epochs and not interrupts.received():
            run.model.train()
            progress.begin_epoch()
            batches = ahead(run.batches.epoch(run.epoch, start=run.step_in_epoch))
            for x, targets in run.feed(batches):
                if late is None:
                    _report(run, progress, [_update(run, x, targets)])
                else:
                    lr = run.learning_rate(run.step + len(late.unread))
                    _report(run, progress, late(x, targets, lr))
                if interrupts.received():
                    _report(run, progress, late.read() if late else [])
                    break
                if late and late.unread:
                    continue
                if settings.checkpoint_every and run.step % settings.checkpoint_every == 0:
                    run.save(LAST)
            if run.step_in_epoch == len(run.batches):
                _finish_epoch(run, progress)
        if run.epoch == settings.epochs:
            return _finish(run, progress, began)
        run.save(LAST)
        return _result(run, began, interrupted=interrupts.received())


def _update(run: Run, x: Array, targets: Array) -> Made:
    """One step."""
    lr = run.learning_rate(run.step)
    loss, logits = _differentiate(run, x, targets)
    norm = float(clip_gradients(run.model.parameters(), run.settings.clip or None))
    run.require_finite(loss, norm, lr)
    run.optimizer.step(lr)
    if run.average is not None:
        run.average.update()
    return Made(loss, int(right_answers(logits, targets)), norm, len(x), lr)


def _report(run: Run, progress: Progress, steps: list[Made]) -> None:
    """Count the steps that were made, and tell of them."""
    for made in steps:
        if run.alone and not made.skipped:
            run.require_finite(made.loss, made.norm, made.lr)
        run.count(made)
        progress.step(
            loss=made.loss, right=made.right, images=made.images, lr=made.lr, norm=made.norm
        )


def _differentiate(run: Run, x: Array, targets: Array) -> tuple[float, Array]:
    """Set the gradients of the mean loss of a batch; give the loss, and the logits (B, K)."""
    run.model.zero_grad()
    with quiet():
        loss, logits = run.loss(x, targets)
        loss.backward()
    return float(loss.item()), logits


def _finish_epoch(run: Run, progress: Progress) -> None:
    speed = progress.images_per_second
    result = run.evaluate()
    progress.epoch(result, speed)
    best = run.close_epoch(result)
    run.save(*((BEST, LAST) if best else (LAST,)))


def _finish(run: Run, progress: Progress, began: float) -> Result:
    """What comes after the last checkpoint; nothing of it may hide the result."""
    if run.held_out is not None:
        run.accuracy = run.test_best().accuracy
    for what, work in (("entry in the log", _log_test), ("curves.png", _draw_curves)):
        try:
            work(run, progress)
        except Exception as error:
            progress.say(f"no {what}: {error}")
    return replace(_result(run, began), test_accuracy=run.accuracy)


def _log_test(run: Run, progress: Progress) -> None:
    if run.held_out is not None:
        progress.log("test", epoch=run.epoch, accuracy=run.accuracy)


def _draw_curves(run: Run, progress: Progress) -> None:
    from minswin.look.curves import save_curves

    save_curves(read_journal(run.folder / LOG), run.folder / CURVES)


def _result(run: Run, began: float, interrupted: int | None = None) -> Result:
    return Result(
        folder=run.folder,
        epochs=run.epoch,
        steps=run.step,
        best_accuracy=run.best_accuracy,
        test_accuracy=None,
        interrupted=interrupted,
        seconds=time.perf_counter() - began,
    )


def _require_unused(folder: Path) -> None:
    found = [name for name in FILES if (folder / name).exists()]
    if LAST in found:
        what = f"a run; continue it with --resume {folder}, start it anew with --overwrite"
    else:
        what = f"{', '.join(found)} of a run; replace it with --overwrite"
    if found:
        raise FileExistsError(
            f"train: {folder} already holds {what}, or choose another folder with --out"
        )

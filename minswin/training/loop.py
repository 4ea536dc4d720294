"""Runs of training: update after update (updates.py), evaluate, save; stop and go on."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minswin.arguments import checks_switches
from minswin.devices import working_on
from minswin.distributed import Group
from minswin.replacing import require_folder
from minswin.training.alone import alone_in
from minswin.training.checkpoints import BEST, LAST, Checkpoint, find_run, read_checkpoint
from minswin.training.folder import CURVES, LOG, Folder, require_apart, require_unused
from minswin.training.learnt import place_of, require_folder_of
from minswin.training.progress import Progress, read_journal
from minswin.training.ranks import require_same_run, require_same_start
from minswin.training.run import Run
from minswin.training.settings import Settings
from minswin.training.updates import Updates


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


@checks_switches
def train(
    settings: Settings,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    group: Group | None = None,
) -> Result:
    """Train a model from its beginning; `resume` continues a run that was stopped.

    group: of ranks (distributed.py) that all call this; they share each batch, and give the
    numbers of one process up to the rounding of sums. Rank 0 alone writes.
    """
    if not isinstance(settings, Settings):
        raise TypeError(f"train: settings must be Settings, got {type(settings).__name__}")
    group = group or Group()
    with ExitStack() as held:
        group.lead(partial(_take, held, settings, overwrite))
        require_same_start(group, settings)
        with working_on(settings.device), closing(Run(settings, group=group)) as run:
            require_same_run(run)
            return _train(run, Folder.begin(run), quiet)


@checks_switches
def resume(
    path: Path | str, *, quiet: bool = False, group: Group | None = None, **moved: Any
) -> Result:
    """Continue the run in a folder where its last checkpoint stands, bit for bit.

    moved: `data` (of a folder of pictures), `data_dir`, `download`, `teacher`, `device`, `workers`:
    the settings that may differ from those it began with. On another kind of device, or with
    another number of ranks, the numbers are rounded differently from there on.
    """
    group = group or Group()
    with ExitStack() as held:
        file, checkpoint = group.lead(partial(_read_last, held, path))
        info = checkpoint.info
        if "data" in moved:
            require_folder_of(info, moved["data"])
        else:
            moved["data"] = place_of(info, who="train")
        settings = Settings(**{**info["settings"], **moved, "out": str(file.parent)})
        require_same_start(group, settings)
        with working_on(settings.device), closing(Run(settings, resumed=info, group=group)) as run:
            require_same_run(run)
            return _train(run, Folder.restore(run, checkpoint, file), quiet)


def _take(held: ExitStack, settings: Settings, overwrite: bool) -> None:
    """Make sure of the folder of a new run."""
    require_apart(settings)
    require_folder(settings.folder, who="train")
    held.enter_context(alone_in(settings.folder, who="train"))
    if not overwrite:
        require_unused(settings.folder)


def _read_last(held: ExitStack, path: Path | str) -> tuple[Path, Checkpoint]:
    """Make sure of the folder of an older run before it is read: another may be writing there."""
    file = find_run(path)
    if file.is_file():
        require_folder(file.parent, who="train")
        held.enter_context(alone_in(file.parent, who="train"))
    if file.name != LAST and file.is_file():
        raise ValueError(
            f"train: {file} may be older than the end of its run, which would be overwritten; "
            f"continue from the last checkpoint with --resume {file.parent}"
        )
    return file, read_checkpoint(file)


def _train(run: Run, folder: Folder, quiet: bool) -> Result:
    began, epochs, updates = time.perf_counter(), run.settings.epochs, Updates(run)
    progress = Progress(run, folder.journal, quiet=quiet)
    with Interrupts(run.group) as interrupts, closing(folder), closing(progress):
        while run.epoch < epochs and not interrupts.received():
            progress.begin_epoch()
            for read in updates(run.rest_of_epoch()):
                progress.steps(read)  # those of a GPU are read some steps later
                if interrupts.received():
                    progress.steps(updates.read())
                    break
                if not updates.unread and run.is_time_to_save():
                    folder.save(LAST)
            if run.step_in_epoch == len(run.batches):
                _finish_epoch(run, folder, progress)
        if run.epoch == epochs:
            return _finish(run, progress, began)
        folder.save(LAST)
        return _result(run, began, interrupted=interrupts.received())


def _finish_epoch(run: Run, folder: Folder, progress: Progress) -> None:
    speed = progress.images_per_second
    result = run.evaluate()
    progress.epoch(result, speed)
    best = run.close_epoch(result)
    folder.save(*((BEST, LAST) if best else (LAST,)))


def _finish(run: Run, progress: Progress, began: float) -> Result:
    """What comes after the last checkpoint; nothing of it may hide the result."""
    if run.held_out is not None:
        run.accuracy = run.test_best().accuracy
    works = (("entry in the log", _log_test), ("curves.png", _draw_curves))
    for what, work in works if run.group.leads else ():
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

    folder = run.settings.folder
    save_curves(read_journal(folder / LOG), folder / CURVES)


def _result(run: Run, began: float, interrupted: int | None = None) -> Result:
    return Result(
        folder=run.settings.folder,
        epochs=run.epoch,
        steps=run.step,
        best_accuracy=run.best_accuracy,
        test_accuracy=None,
        interrupted=interrupted,
        seconds=time.perf_counter() - began,
    )


# ── signals ──────────────────────────────────────────────────────────────────────────────────────

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Inside this block the first SIGINT or SIGTERM is only noted; `received()` gives its number.

    All ranks of a group ask at the same moments, and learn of a signal that any of them received.
    A second one acts as usual, for those who do not want to wait. A signal that is ignored, as a
    shell has it for what it starts in the background, stays ignored. Outside of the main thread,
    where Python lets nobody handle signals, the block does nothing.
    """

    def __init__(self, group: Group | None = None) -> None:
        self._group, self._received = group or Group(), 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._note) for n in SIGNALS if _is_free(n)}
        return self

    def received(self) -> int | None:
        each = self._group.all_reduce(
            np.array([self._received == number for number in SIGNALS], int)
        )
        return next((number for number, ranks in zip(SIGNALS, each, strict=True) if ranks), None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def __exit__(self, *error: object) -> None:
        self._restore()


def _is_free(number: int) -> bool:
    """Whether a signal may be handled here: not ignored, nor handled by what is not Python."""
    return signal.getsignal(number) not in (signal.SIG_IGN, None)

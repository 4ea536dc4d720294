"""What a run keeps on disk: its log and its checkpoints, from which it goes on bit for bit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from minswin.data import NAMES
from minswin.data.folders import roots_of
from minswin.replacing import clear
from minswin.training.checkpoints import (
    BEST,
    LAST,
    Checkpoint,
    require_same_model,
    save_checkpoint,
)
from minswin.training.inputs import tell
from minswin.training.learnt import require_same_images
from minswin.training.progress import Journal
from minswin.training.ranks import require_same_weights
from minswin.training.run import Run, Totals
from minswin.training.settings import Settings
from minswin.version import VERSION

LOG, CURVES = "log.jsonl", "curves.png"
FILES = (LAST, BEST, "last.json", "best.json", LOG, CURVES)


class Folder:
    """The folder of a run, made by `begin` or by `restore`."""

    def __init__(self, run: Run, log_position: int) -> None:
        self.run, self.path = run, run.settings.folder
        log = self.path / LOG if run.group.leads else os.devnull
        self.journal = Journal(log, position=log_position)

    @classmethod
    def begin(cls, run: Run) -> Folder:
        """Clear the folder of an older run, open the log, and save before the first step."""
        run.group.lead(partial(_empty, run.settings.folder))
        folder = cls(run, log_position=0)
        folder.journal.write(kind="run", minswin=VERSION, **asdict(run.settings))
        folder.save(LAST)
        return folder

    @classmethod
    def restore(cls, run: Run, checkpoint: Checkpoint, file: Path) -> Folder:
        """Make the run stand exactly where the checkpoint in `file` was saved."""
        run.group.lead(partial(clear, run.settings.folder))
        require_same_model(checkpoint, run.model, file)
        info = checkpoint.info
        _require_same_bits(run, info, file)
        run.model.load_state_dict(dict(checkpoint.weights))
        run.optimizer.load_state_dict(checkpoint.optimizer)
        if run.average is not None:
            run.average.load_state_dict(checkpoint.average, step=info["average_step"])
        if run.scale is not None:
            run.scale.restore(info["loss_scale"] or run.scale.state())
        run.model.rng.bit_generator.state = info["rng"]
        run.normalise_by(info["data"]["mean"], info["data"]["std"])
        run.epoch, run.step_in_epoch = info["epoch"], info["step_in_epoch"]
        run.accuracy, run.best_accuracy = info["accuracy"], info["best_accuracy"]
        run.totals = Totals(**info["totals"])
        _forget_lost_best(run)
        return cls(run, log_position=info["log_position"])

    def save(self, *names: str) -> None:
        """Write this moment as the checkpoints `names`, if it is a good one; rank 0 writes."""
        self.run.require_good()
        require_same_weights(self.run)
        self.run.group.lead(partial(self._write, names))

    def _write(self, names: tuple[str, ...]) -> None:
        run = self.run
        average = run.average.state_dict() if run.average else {}
        arrays = run.model.state_dict(), run.optimizer.state_dict(), average
        state = Checkpoint(self._describe(), *arrays)
        for name in names:
            save_checkpoint(self.path / name, state)

    def _describe(self) -> dict[str, Any]:
        run, data = self.run, self.run.settings.data
        return {
            "minswin": VERSION,
            "model": {"name": run.model.name, "settings": run.model.settings},
            "data": run.describe_data(),
            "folder": None if data in NAMES else os.path.abspath(data),
            "teacher": run.teaching.described if run.teaching else None,
            "kernels": run.backend,
            "epoch": run.epoch,
            "step_in_epoch": run.step_in_epoch,
            "step": run.step,
            "accuracy": run.accuracy,
            "best_accuracy": run.best_accuracy,
            "totals": asdict(run.totals),
            "log_position": self.journal.position,
            "loss_scale": run.scale.state() if run.scale else None,
            "average_step": run.average.step if run.average else 0,
            "rng": run.model.rng.bit_generator.state,
            "settings": asdict(run.settings),
            "saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def close(self) -> None:
        self.journal.close()


def _forget_lost_best(run: Run) -> None:
    """Where the best epoch's checkpoint is gone, let the best of those that come take its place."""
    best = run.settings.folder / BEST
    if run.best_accuracy is None or run.group.lead(best.is_file):
        return
    tell(
        f"{best} is gone: of the epochs that come the best is kept there; the earlier ones, up to "
        f"{run.best_accuracy:.1%} right, are lost"
    )
    run.best_accuracy = None


def _empty(path: Path) -> None:
    """Make the folder of a run, or clear that of an older one."""
    path.mkdir(parents=True, exist_ok=True)
    clear(path)
    for name in FILES:
        (path / name).unlink(missing_ok=True)


def _require_same_bits(run: Run, info: Mapping[str, Any], file: Path) -> None:
    """Raise where the run would go on, but not to the numbers that it was heading for."""
    backend = info.get("kernels", run.backend)
    moved = info["settings"].get("device", "cpu") != run.settings.device  # asked for
    if backend != run.backend and not moved:
        raise ValueError(
            f"train: {file} was trained with the kernels '{backend}', now '{run.backend}' "
            f"are chosen; set MINSWIN_KERNELS={backend} to continue it bit for bit"
        )
    if run.teaching is not None:
        run.teaching.require_same_teacher(info["teacher"])
    require_same_images(run.train_set, info, run.split, who="train", run=file)


def require_apart(settings: Settings) -> None:
    """Raise where a run would lie among its pictures, of which its files would be some.

    Beside the folders of two sides, or where a name begins with a dot, no pictures are looked for.
    """
    if settings.data in NAMES:
        return
    folder = settings.folder.resolve()
    roots = [root.resolve() for root in roots_of(Path(settings.data)).values()]
    below = [folder.relative_to(root).parts for root in roots if root in (folder, *folder.parents)]
    if not all(any(part.startswith(".") for part in parts) for parts in below):  # not looked into
        raise ValueError(
            f"train: the run would be kept in {settings.folder}, among the pictures of "
            f"{settings.data}, and its files be taken for some; choose another folder with --out"
        )


def require_unused(folder: Path) -> None:
    """Raise where a folder already holds a run, or parts of one."""
    present = [name for name in FILES if (folder / name).exists()]
    if LAST in present:
        what = f"a run; continue it with --resume {folder}, start it anew with --overwrite"
    else:
        what = f"{', '.join(present)} of a run; replace it with --overwrite"
    if present:
        raise FileExistsError(
            f"train: {folder} already holds {what}, or choose another folder with --out"
        )

"""What a run reports while it works: a bar on a terminal, one line for each epoch, the log.

The log is one JSON object a line, which a resumed run continues without a gap.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from minswin import opening
from minswin.bar import Bar
from minswin.look.tables import fitted
from minswin.training.evaluation import Evaluation
from minswin.training.run import Run, Update


class Progress:
    """Report a run. The bar is only drawn on a terminal; the log gets every `log_every`th step."""

    def __init__(self, run: Run, journal: Journal, *, quiet: bool = False) -> None:
        self.run, self.journal = run, journal
        quiet = quiet or not run.group.leads
        self.bar = Bar(run.steps, done=run.step, shown=False if quiet else None)

    def begin_epoch(self) -> None:
        """The steps of an epoch, or what is left of them, begin."""
        self._start, self._images = time.perf_counter(), 0
        self.bar.label = f"epoch {self.run.epoch + 1}/{self.run.settings.epochs}"

    @property
    def images_per_second(self) -> float:
        """Training speed in this epoch, as far as this process has worked on it."""
        return self._images / max(time.perf_counter() - self._start, 1e-9)

    def steps(self, updates: Iterable[Update]) -> None:
        """Count updates that were made, and report them."""
        for update in updates:
            self.run.count(update)
            self._step(update)

    def _step(self, update: Update) -> None:
        self._images += update.images
        totals, every = self.run.totals, self.run.settings.log_every
        counted = max(totals.images, 1)  # 0 while all steps were skipped
        self.bar.text = (
            f"loss {totals.loss / counted:.3f}  accuracy {totals.right / counted:.1%}  "
            f"{self.images_per_second:,.0f} images/s"
        )
        self.bar.update()
        if every and self.run.step % every == 0:
            self.log(
                "step",
                epoch=self.run.epoch + 1,
                lr=update.lr,
                loss=update.loss,
                accuracy=update.right / update.images,
                grad_norm=update.norm,
                images_per_second=round(self.images_per_second, 1),
            )

    def epoch(self, result: Evaluation, speed: float) -> None:
        """All steps of an epoch are made and were evaluated."""
        run, totals = self.run, self.run.totals
        counted = max(totals.images, 1)
        loss, accuracy = totals.loss / counted, totals.right / counted
        on = "test" if run.held_out is None else "held-out"
        self.log(
            "epoch",
            epoch=run.epoch + 1,
            lr=run.learning_rate(run.step - 1),
            loss=loss,
            accuracy=accuracy,
            evaluated_on=on,
            evaluation_loss=result.loss,
            evaluation_accuracy=result.accuracy,
            images_per_second=round(speed, 1),
        )
        epochs = str(run.settings.epochs)
        self.say(
            f"epoch {run.epoch + 1:{len(epochs)}}/{epochs}   loss {loss:.3f}   accuracy "
            f"{accuracy:6.1%}   {on} loss {result.loss:.3f}   {on} accuracy {result.accuracy:6.1%}"
            f"   {speed:,.0f} images/s"
        )

    def log(self, kind: str, **record: Any) -> None:
        """Add a line to the run's log."""
        self.journal.write(kind=kind, step=self.run.step, **record)

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar; rank 0 alone does."""
        if not self.run.group.leads:
            return
        self.bar.write(fitted(line, sys.stdout), file=sys.stdout)

    def close(self) -> None:
        self.bar.clear()


# ── the log ──────────────────────────────────────────────────────────────────────────────────────


class Journal:
    """Append records to a .jsonl file; `position` is what a checkpoint remembers of it.

    The file is on the disk up to `position` when `position` is read, and opening it at a position
    cuts off what was written later, so that steps which are done again are not logged twice.
    """

    def __init__(self, path: Path | str, *, position: int = 0) -> None:
        self.path = Path(path)
        self._file = open(self.path, "ab")  # noqa: SIM115 - closed by close()
        if self._file.tell() > position:
            self._file.truncate(position)
            self._file.seek(position)

    def write(self, **record: Any) -> None:
        """Add one line; numbers that JSON does not know (NaN, infinity) become null."""
        record = {k: None if _unknown_to_json(v) else v for k, v in record.items()}
        try:
            self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"train: cannot write the log {self.path} ({error.strerror or error}); make room, "
                f"and go on with --resume {self.path.parent}"
            ) from error

    @property
    def position(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        with suppress(OSError):  # of a full disk, which `write` has reported
            self._file.close()


def read_journal(path: Path | str) -> list[dict[str, Any]]:
    """The records of a log; a last line that is cut off, as a kill can leave it, is left out."""
    return list(_records(Path(path)))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    lines = opening.read_file(path, who="read_journal").decode().split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line end is cut off
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"read_journal: {path} line {number} is not JSON ({error}); remove that line"
            ) from error


def _unknown_to_json(value: Any) -> bool:
    return isinstance(value, float) and (value != value or value in (float("inf"), -float("inf")))

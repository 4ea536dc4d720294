"""What a run reports while it works: a bar on a terminal, one line for each epoch, the log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from minswin.bar import Bar
from minswin.look.tables import fitted
from minswin.training.classify import Evaluation
from minswin.training.run import Made, Run


class Progress:
    """Report a run. The bar is only drawn on a terminal; the log gets every `log_every`th step."""

    def __init__(self, run: Run, *, quiet: bool = False) -> None:
        self.run = run
        self.bar = Bar(run.steps, done=run.step, shown=False if quiet else None)

    def begin_epoch(self) -> None:
        """The steps of an epoch, or what is left of them, begin."""
        self._start, self._images = time.perf_counter(), 0
        self.bar.label = f"epoch {self.run.epoch + 1}/{self.run.settings.epochs}"

    @property
    def images_per_second(self) -> float:
        """Training speed in this epoch, as far as this process has worked on it."""
        return self._images / max(time.perf_counter() - self._start, 1e-9)

    def steps(self, updates: Iterable[Made]) -> None:
        """Count updates that were made, and report them."""
        for made in updates:
            self.run.count(made)
            self._step(made)

    def _step(self, made: Made) -> None:
        self._images += made.images
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
                lr=made.lr,
                loss=made.loss,
                accuracy=made.right / made.images,
                grad_norm=made.norm,
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
        assert self.run.journal is not None
        self.run.journal.write(kind=kind, step=self.run.step, **record)

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        self.bar.write(fitted(line, sys.stdout), file=sys.stdout)

    def close(self) -> None:
        self.bar.clear()

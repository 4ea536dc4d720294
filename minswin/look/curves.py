"""Loss and accuracy of a run over its epochs, from its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minswin.look.canvas import BLUE, ROSE, empty_figure, save

__all__ = ["draw_accuracy", "draw_loss", "save_curves"]

TRAINING, EVALUATION, FAINT = BLUE, ROSE, "#b9cbe0"


def draw_loss(axes: Any, records: Sequence[dict[str, Any]]) -> Any:
    """Draw the loss of single steps (faint), of epochs, and of the evaluations; give the axes."""
    axes = _draw(axes, records, "loss")
    axes.set_ylim(bottom=0)
    return axes


def draw_accuracy(axes: Any, records: Sequence[dict[str, Any]]) -> Any:
    """Draw the accuracy of single steps (faint), of epochs, and of the evaluations."""
    axes = _draw(axes, records, "accuracy")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda share, position: f"{share:.0%}")
    return axes


def save_curves(records: Sequence[dict[str, Any]], path: Path | str) -> None:
    """Write the curves of a run's log to a picture, .png or .svg by its name."""
    figure = empty_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    draw_loss(left, records)
    draw_accuracy(right, records)
    save(figure, path)


def _draw(axes: Any, records: Sequence[dict[str, Any]], what: str) -> Any:
    epochs = [r for r in records if r["kind"] == "epoch"]
    steps = [r for r in records if r["kind"] == "step" and r[what] is not None]
    per_epoch = epochs[0]["step"] / epochs[0]["epoch"] if epochs else 1
    axes.plot([r["step"] / per_epoch for r in steps], [r[what] for r in steps], color=FAINT, lw=0.8)
    numbers = [r["epoch"] for r in epochs]
    middles = [n - 0.5 for n in numbers]  # the mean of an epoch belongs to its middle
    axes.plot(middles, [r[what] for r in epochs], ".-", color=TRAINING, label="training")
    if epochs:
        label = epochs[-1]["evaluated_on"]
        evaluated = [r[f"evaluation_{what}"] for r in epochs]
        axes.plot(numbers, evaluated, ".-", color=EVALUATION, label=label)
        axes.legend(frameon=False)
    axes.set_xlabel("epoch" if epochs else "step")
    axes.set_ylabel(what)
    axes.spines[["top", "right"]].set_visible(False)
    return axes

"""Pictures of what was found: pixels coloured by class, boxes with class and score."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin.dense.boxes import nms
from minswin.dense.detection import Found

COLOURS = np.array(
    [
        (0.93, 0.40, 0.47), (0.13, 0.53, 0.20), (0.27, 0.47, 0.67), (0.80, 0.73, 0.27),
        (0.40, 0.80, 0.93), (0.67, 0.20, 0.47), (0.93, 0.47, 0.20), (0.20, 0.73, 0.65),
        (0.60, 0.60, 0.60), (0.45, 0.30, 0.85),
    ]
)  # fmt: skip


def save_segments(
    images: NDArray[np.uint8],
    truth: NDArray[Any],
    found: NDArray[Any],
    classes: Sequence[str],
    path: Path | str,
) -> None:
    """Three rows: the images (N, 3, H, W), their true masks (N, H, W), and what was found."""
    figure, N = _figure()(figsize=(1.1 * len(images), 3.9), layout="constrained"), len(images)
    axes = figure.subplots(3, N, squeeze=False)
    for i in range(N):
        picture = images[i].transpose(1, 2, 0)
        for row, content in enumerate((picture, painted(truth[i]), painted(found[i]))):
            axes[row, i].imshow(content, interpolation="nearest")
            axes[row, i].set(xticks=[], yticks=[])
    for row, name in enumerate(("image", "truth", "found")):
        axes[row, 0].set_ylabel(name)
    marks = [_patch(COLOURS[k % len(COLOURS)]) for k in range(len(classes))]
    figure.legend(
        marks, classes, loc="outside lower center", ncols=len(classes), frameon=False, fontsize=8
    )
    _save(figure, path)


def painted(mask: NDArray[Any]) -> NDArray[np.float64]:
    """A colour for every class, white for the background.        (H, W) to (H, W, 3)"""
    return np.concatenate([np.ones((1, 3)), COLOURS])[np.where(mask > 0, (mask - 1) % 10 + 1, 0)]


def save_boxes(
    images: NDArray[np.uint8],
    truth: Sequence[NDArray[Any]],
    found: Sequence[Found],
    classes: Sequence[str],
    path: Path | str,
    *,
    least: float = 0.3,
    columns: int = 4,
) -> None:
    """The images (N, 3, H, W) with the true boxes dotted, and those found with class and score.

    least: boxes with a lower score are left out; of boxes in one place the best alone is drawn
    """
    rows = -(-len(images) // columns)
    figure = _figure()(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.set_axis_off()
    for axes, image, true, objects in zip(figure.axes, images, truth, found, strict=False):
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        for box in true:
            _outline(axes, box, "white")
            _outline(axes, box, "black", linestyle=":")  # seen on light and on dark
        alone = nms(objects.boxes, objects.scores, np.zeros_like(objects.labels))
        for i in alone:
            box, score, label = objects.boxes[i], objects.scores[i], objects.labels[i]
            if score >= least:
                colour = COLOURS[label % len(COLOURS)]
                _outline(axes, box, colour)
                note = {"boxstyle": "square,pad=0.1", "facecolor": colour, "linewidth": 0}
                text = f"{classes[label]} {score:.0%}"
                axes.text(box[0], box[1] - 1, text, fontsize=6, color="white", bbox=note)
    _save(figure, path)


def _outline(axes: Any, box: NDArray[Any], colour: Any, linestyle: str = "-") -> None:
    x0, y0, x1, y1 = box - 0.5  # imshow puts the middle of pixel 0 at 0
    axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, ls=linestyle, lw=1.3)


def _patch(colour: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('matplotlib is missing; pip install "minswin[plot]"') from error
    return Figure


def _save(figure: Any, path: Path | str) -> None:
    """Under another name first, so that a picture is whole or not there."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(temporary, dpi=130)
    os.replace(temporary, path)

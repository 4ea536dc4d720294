"""Pictures of predictions: pixels coloured by class, boxes with class and score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin.dense.boxes import nms
from minswin.dense.detection import Detections
from minswin.dense.segmentation import IGNORED
from minswin.look.canvas import COLOURS, INK, empty_figure, rgb, save

PALETTE = np.array([rgb(colour) for colour in COLOURS])  # (10, 3), one for each class
UNKNOWN = rgb(INK)  # of the pixels that do not count


def save_segments(
    images: NDArray[np.uint8],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    classes: Sequence[str],
    path: Path | str,
) -> None:
    """Three rows: the images (N, 3, H, W), their true masks (N, H, W), and those predicted."""
    figure, N = empty_figure(1.1 * len(images), 3.9), len(images)
    axes = figure.subplots(3, N, squeeze=False)
    for i in range(N):
        picture = images[i].transpose(1, 2, 0)
        for row, content in enumerate((picture, painted(truth[i]), painted(predicted[i]))):
            axes[row, i].imshow(content, interpolation="nearest")
            axes[row, i].set(xticks=[], yticks=[])
    for row, name in enumerate(("image", "truth", "predicted")):
        axes[row, 0].set_ylabel(name)
    names, marks = [*classes], [_patch(PALETTE[k % len(PALETTE)]) for k in range(len(classes))]
    if (truth == IGNORED).any():
        names, marks = [*names, "does not count"], [*marks, _patch(UNKNOWN)]
    figure.legend(
        marks, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8
    )
    save(figure, path, dpi=130)


def painted(mask: NDArray[Any]) -> NDArray[np.float64]:
    """A colour for every class, white for the background, nearly black for what does not count.

    mask (H, W)   gives (H, W, 3)
    """
    kinds = np.where(mask > 0, (mask - 1) % len(PALETTE) + 1, 0)
    colours = np.concatenate([np.ones((1, 3)), PALETTE])[kinds]  # (H, W, 3)
    colours[mask == IGNORED] = UNKNOWN
    return colours


def save_boxes(
    images: NDArray[np.uint8],
    truth: Sequence[NDArray[Any]],
    predicted: Sequence[Detections],
    classes: Sequence[str],
    path: Path | str,
    *,
    least: float = 0.3,
    columns: int = 4,
) -> None:
    """The images (N, 3, H, W) with the true boxes dotted, and those predicted with class and score.

    least: boxes with a lower score are left out; where boxes overlap only the best is drawn
    """
    rows = -(-len(images) // columns)
    figure = empty_figure(2.6 * columns, 2.6 * rows)
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.set_axis_off()
    for axes, image, true, objects in zip(figure.axes, images, truth, predicted, strict=False):
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        for box in true:
            _outline(axes, box, "white")
            _outline(axes, box, "black", linestyle=":")  # seen on light and on dark
        alone = nms(objects.boxes, objects.scores, np.zeros_like(objects.labels))
        for i in alone:
            box, score, label = objects.boxes[i], objects.scores[i], objects.labels[i]
            if score >= least:
                colour = PALETTE[label % len(PALETTE)]
                _outline(axes, box, colour)
                note = {"boxstyle": "square,pad=0.1", "facecolor": colour, "linewidth": 0}
                text = f"{classes[label]} {score:.0%}"
                axes.text(box[0], box[1] - 1, text, fontsize=6, color="white", bbox=note)
    figure.supxlabel(f"dotted: the truth. Coloured: found, with a score of {least:.0%} or more")
    save(figure, path, dpi=130)


def _outline(axes: Any, box: NDArray[Any], colour: Any, linestyle: str = "-") -> None:
    x0, y0, x1, y1 = box - 0.5  # imshow puts the middle of pixel 0 at 0
    axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, ls=linestyle, lw=1.3)


def _patch(colour: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour)

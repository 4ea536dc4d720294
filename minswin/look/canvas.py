"""What the pictures share: colours, figures and their files, an image under a tint."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from minswin.replacing import replacing, require_replaceable

__all__ = [
    "as_uri",
    "bare",
    "empty_figure",
    "enlarge",
    "figure",
    "picture_path",
    "rgb",
    "save",
    "show_image",
]

INK, FAINT = "#2b2b2b", "#d9d6cf"
BLUE, ROSE, SAND, GREEN, PLUM = "#4477aa", "#cc6677", "#ddaa33", "#228833", "#aa3377"
COLOURS = (BLUE, ROSE, SAND, GREEN, PLUM, "#66ccee", "#997700", "#999999", "#332288", "#ee8866")
TINT = np.array([0.85, 0.27, 0.14])  # of what is attended to
MODEST: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.edgecolor": "#888888",
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
}


def rgb(colour: str) -> np.ndarray:
    """Red, green and blue, 0…1, of a colour like "#4477aa".        gives (3,)"""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def empty_figure(width: float, height: float) -> Any:
    """A figure of this many inches, with nothing on it. Raises ImportError without matplotlib."""
    with _without_backend():
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('matplotlib is missing; pip install "minswin[plot]"') from error
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


@contextmanager
def _without_backend() -> Iterator[None]:
    """Import matplotlib without the backend that MPLBACKEND names, which may not be installed.

    Pictures in files need none. Where it can be had it is chosen afterwards, for whoever plots.
    """
    if "matplotlib" in sys.modules or "MPLBACKEND" not in os.environ:
        yield
        return
    backend = os.environ.pop("MPLBACKEND")
    try:
        yield
    finally:
        os.environ["MPLBACKEND"] = backend
    with suppress(ValueError, ImportError):
        sys.modules["matplotlib"].rcParams["backend"] = backend


def figure(columns: int, rows: int = 1, *, width: float = 2.2, height: float = 2.2) -> Any:
    """(figure, axes (rows, columns)); width and height, in inches, are those of one picture."""
    drawn = empty_figure(width * columns, height * rows)
    from matplotlib import rc_context

    with rc_context(MODEST):
        return drawn, drawn.subplots(rows, columns, squeeze=False)


def save(drawn: Any, path: Path | str, *, dpi: int = 150) -> None:
    """Write a figure to a picture file, .png or .svg by its name, whole or not at all."""
    path = picture_path(path)
    with replacing(path, who="save") as temporary:
        drawn.savefig(temporary, dpi=dpi)


def picture_path(path: Path | str) -> Path:
    """Where `save` writes: .png is added to a name without an ending.

    Ask before a long computation: what would keep the picture from being saved is an error now.
    """
    path = Path(path)
    kinds = empty_figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in kinds:
        raise ValueError(
            f"picture_path: {path.name} ends in {path.suffix}, which is no kind of picture that "
            f"matplotlib writes; use one of .{', .'.join(sorted(kinds))}"
        )
    path = path if path.suffix or path.is_dir() else path.with_name(f"{path.name}.png")
    require_replaceable(path, who="picture_path")
    return path


def as_uri(drawn: Any, *, dpi: int = 110) -> str:
    """A figure as the text of a PNG, which a page can hold in itself."""
    stream = BytesIO()
    drawn.savefig(stream, format="png", dpi=dpi, facecolor="none")  # the page shines through
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def bare(axes: Any, title: str = "") -> Any:
    """Axes without ticks and frame; give them back."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=8)
    return axes


def show_image(axes: Any, pixels: np.ndarray, *, tint: np.ndarray | None = None) -> Any:
    """An image, bytes (3, H, W); with tint (h, w), in 0…1, pale where that is small.

    tint divides the image: each of its places covers H/h × W/w pixels.
    """
    shown = pixels.transpose(1, 2, 0) / 255  # (H, W, 3)
    if tint is not None:
        share = enlarge(tint, (shown.shape[0], shown.shape[1]))[..., None]  # (H, W, 1)
        pale = 0.62 + 0.36 * shown.mean(axis=2, keepdims=True)
        shown = pale * (1 - 0.9 * share) + TINT * 0.9 * share
    extent = (0, shown.shape[1], shown.shape[0], 0)  # one unit is one pixel
    axes.imshow(shown.clip(0, 1), interpolation="nearest", extent=extent)
    return bare(axes)


def enlarge(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) as (H, W): every place becomes a rectangle of its value."""
    rows = np.arange(size[0]) * x.shape[0] // size[0]
    columns = np.arange(size[1]) * x.shape[1] // size[1]
    return x[rows[:, None], columns]


def stretch(x: np.ndarray) -> np.ndarray:
    """x over its largest value: 0…1 for numbers that are not negative."""
    largest = x.max()
    return x / largest if largest > 0 else x


def lines(axes: Any, size: tuple[int, int], grid: tuple[int, int], **style: Any) -> None:
    """Cut a picture of H×W pixels into a grid of rectangles."""
    (H, W), (rows, columns) = size, grid
    style = {"color": "white", "lw": 0.6, **style}
    axes.hlines(np.arange(1, rows) * H / rows, 0, W, **style)
    axes.vlines(np.arange(1, columns) * W / columns, 0, H, **style)


def clear(axes: Any) -> None:
    """Hide axes in which nothing is drawn."""
    axes.set_axis_off()

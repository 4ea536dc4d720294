"""Pictures to begin with, drawn by this file: no photograph is part of the package."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SIDE = 32  # units of a drawing along each side
FINER = 16  # points drawn for each unit, of which the mean is taken
Shape = tuple[str, str, tuple[float, ...]]  # ellipse, polygon or line; its colour; x, y, x, y, …


class Drawing(NamedTuple):
    """A background that fades from top to bottom, and shapes in the order in which they cover."""

    above: str
    below: str
    shapes: tuple[Shape, ...]


def ellipse(colour: str, *box: float) -> Shape:
    return "ellipse", colour, box


def polygon(colour: str, *points: float) -> Shape:
    return "polygon", colour, points


DRAWINGS = {
    "cat": Drawing(
        "#b59d85",
        "#9a8570",
        (
            ellipse("#8b5f37", 5, 17, 27, 36),
            polygon("#a06b3d", 6.6, 13, 7.6, 2.8, 14.2, 8.4),
            polygon("#a06b3d", 25.4, 13, 24.4, 2.8, 17.8, 8.4),
            polygon("#d9a58a", 8.4, 9.4, 8.8, 5.2, 11.6, 8),
            polygon("#d9a58a", 23.6, 9.4, 23.2, 5.2, 20.4, 8),
            ellipse("#b57b47", 5.6, 6, 26.4, 24.4),
            ellipse("#e9d5bb", 10, 15.4, 22, 24),
            polygon("#7a4e2a", 15, 6.4, 17, 6.4, 16.6, 11, 15.4, 11),
            polygon("#7a4e2a", 11.4, 7, 13, 6.6, 13.6, 10.6, 12.8, 10.8),
            polygon("#7a4e2a", 20.6, 7, 19, 6.6, 18.4, 10.6, 19.2, 10.8),
            ellipse("#d8cf6a", 9, 11.6, 14, 16),
            ellipse("#d8cf6a", 18, 11.6, 23, 16),
            ellipse("#14130f", 10.9, 11.8, 12.3, 15.8),
            ellipse("#14130f", 19.7, 11.8, 21.1, 15.8),
            polygon("#b5605a", 14.6, 17.4, 17.4, 17.4, 16, 19),
            polygon("#6a4630", 15.7, 19, 16.3, 19, 16.3, 21.4, 15.7, 21.4),
        ),
    ),
    "ship": Drawing(
        "#bcd7ea",
        "#e9f1f2",
        (
            polygon("#2f6a94", 0, 20, 32, 19.4, 32, 32, 0, 32),
            polygon("#255a80", 0, 25, 32, 24, 32, 32, 0, 32),
            polygon("#e9e6df", 9, 12, 22, 12, 23, 17, 8, 17),
            polygon("#cfcabf", 12, 8.5, 18, 8.5, 18.5, 12, 11.5, 12),
            polygon("#c0392f", 19, 6, 21.5, 6, 21.5, 12, 19, 12),
            polygon("#20262c", 19, 5, 21.5, 5, 21.5, 6.6, 19, 6.6),
            polygon("#33383e", 3, 16.5, 29, 16, 26.5, 22, 6, 22),
            polygon("#9e2b25", 5, 20.4, 27.2, 20.2, 26.5, 22.4, 6, 22.4),
            polygon("#dfeaf0", 2, 22.6, 30, 22, 27, 23.4, 5, 23.8),
        ),
    ),
    "airplane": Drawing(
        "#7fb2dd",
        "#cfe3f1",
        (
            ellipse("#e3eef6", 1, 22, 13, 27),
            ellipse("#e3eef6", 20, 4, 31, 8),
            polygon("#8f979f", 15, 15, 24, 27, 20.5, 27, 11, 16),
            polygon("#e8ebee", 2, 14, 5, 12.6, 26, 13, 30, 15.2, 26, 17.2, 6, 17),
            polygon("#b9c0c7", 3, 16, 6, 17, 26, 17.2, 30, 15.2, 20, 16),
            polygon("#36557a", 1.6, 6.6, 4.6, 6.6, 8.6, 13, 3.2, 14),
            polygon("#b9c0c7", 15, 13.4, 18, 13.4, 22, 7.4, 19.6, 7.4),
            polygon("#4c5c6b", 26, 13.8, 28, 14.4, 26.4, 15, 25, 14.8),
        ),
    ),
    "automobile": Drawing(
        "#c9d3d6",
        "#b9bdb8",
        (
            polygon("#70756f", 0, 22, 32, 22, 32, 32, 0, 32),
            polygon("#8b9a7b", 0, 14, 32, 13, 32, 22, 0, 22),
            ellipse("#3f423f", 3, 23, 30, 28),
            polygon(
                "#c1272d", 2.5, 18, 8, 16, 12, 11, 22, 11, 26, 16, 29.5, 17.6, 29.5, 23, 2.5, 23
            ),
            polygon("#26343f", 9.6, 16, 12.8, 12.2, 16.4, 12.2, 16.4, 16),
            polygon("#26343f", 17.6, 16, 17.6, 12.2, 21.4, 12.2, 24.2, 16),
            polygon("#8e1b20", 2.5, 20.4, 29.5, 20.4, 29.5, 23, 2.5, 23),
            polygon("#f4e6b0", 2.5, 18.2, 4.6, 18, 4.6, 19.6, 2.5, 19.6),
            ellipse("#17181a", 5, 19.6, 11.4, 26),
            ellipse("#b8bcc0", 6.8, 21.4, 9.6, 24.2),
            ellipse("#17181a", 20.8, 19.6, 27.2, 26),
            ellipse("#b8bcc0", 22.6, 21.4, 25.4, 24.2),
        ),
    ),
    "truck": Drawing(
        "#b9cfe0",
        "#dfe3e0",
        (
            polygon("#7c7a73", 0, 23, 32, 23, 32, 32, 0, 32),
            polygon("#6d8a5c", 0, 19, 32, 18.4, 32, 23, 0, 23),
            polygon("#f1efe9", 10, 6, 30.5, 6, 30.5, 21, 10, 21),
            polygon("#d5d1c7", 10, 17.8, 30.5, 17.8, 30.5, 21, 10, 21),
            polygon("#2a5ea8", 1.6, 21.8, 1.6, 15, 3.6, 10, 9.4, 10, 9.4, 21.8),
            polygon("#1f2d3a", 2.8, 14.8, 4.4, 11.2, 8, 11.2, 8, 14.8),
            polygon("#2b2e31", 1.6, 21, 30.5, 21, 30.5, 23.4, 1.6, 23.4),
            ellipse("#141516", 3, 20.4, 8.6, 26),
            ellipse("#8f9498", 4.6, 22, 7, 24.4),
            ellipse("#141516", 18, 20.4, 23.6, 26),
            ellipse("#8f9498", 19.6, 22, 22, 24.4),
            ellipse("#141516", 24, 20.4, 29.6, 26),
            ellipse("#8f9498", 25.6, 22, 28, 24.4),
        ),
    ),
    "frog": Drawing(
        "#6a5a3f",
        "#83714f",
        (
            ellipse("#54462f", 3, 21, 30, 29),
            ellipse("#4f7a2e", 3, 17, 13, 27),
            ellipse("#4f7a2e", 19, 17, 29, 27),
            ellipse("#6f9d3c", 7, 11, 25, 27),
            ellipse("#a9bf6d", 10, 19, 22, 27),
            ellipse("#6f9d3c", 6.6, 6, 13.6, 13),
            ellipse("#6f9d3c", 18.4, 6, 25.4, 13),
            ellipse("#e8d98a", 8, 7.2, 12.2, 11.4),
            ellipse("#e8d98a", 19.8, 7.2, 24, 11.4),
            ellipse("#15180f", 9.2, 8.2, 11.2, 10.6),
            ellipse("#15180f", 20.8, 8.2, 22.8, 10.6),
            polygon("#3f5f24", 9.6, 17, 16, 19, 22.4, 17, 22.4, 17.8, 16, 19.8, 9.6, 17.8),
            ellipse("#5f8c33", 6, 24, 13, 28.4),
            ellipse("#5f8c33", 19, 24, 26, 28.4),
        ),
    ),
    "bird": Drawing(
        "#a8bfa0",
        "#8fa886",
        (
            ellipse("#9db394", 0, 0, 14, 12),
            polygon("#5e4c37", 0, 25, 32, 22.6, 32, 24.8, 0, 27.4),
            polygon("#4a3b2b", 12.6, 20, 13.6, 20, 13, 25.6, 12.2, 25.6),
            polygon("#4a3b2b", 16.6, 20, 17.6, 20, 17.4, 25, 16.6, 25),
            polygon("#5c6f86", 18, 14, 30.5, 19.4, 29, 21.6, 16.4, 20),
            ellipse("#7f93aa", 7, 10, 22, 22),
            ellipse("#d98f4e", 7, 13, 16, 22),
            polygon("#4e5f75", 12, 12.4, 20, 13, 25.6, 18.6, 15, 18.4),
            ellipse("#7f93aa", 5, 5.4, 13.6, 14),
            ellipse("#16181b", 7.4, 8, 9.2, 9.8),
            polygon("#d8a13c", 5.4, 8.8, 1.4, 10.4, 5.6, 11),
        ),
    ),
    "horse": Drawing(
        "#b7cfdf",
        "#dbe5de",
        (
            polygon("#7f9a58", 0, 20, 32, 19, 32, 32, 0, 32),
            polygon("#5d3920", 9.6, 18, 11.6, 18, 11.4, 29, 9.8, 29),
            polygon("#5d3920", 21.8, 18, 23.8, 18, 23.8, 29, 22.2, 29),
            polygon("#74492a", 12, 18, 14.4, 18, 13.6, 29.6, 12, 29.6),
            polygon("#74492a", 19.6, 17, 22.4, 17, 21.6, 29.6, 20, 29.6),
            ellipse("#7d4f2d", 8, 11.4, 24.6, 21),
            polygon("#7d4f2d", 19, 14, 22.8, 5, 26.8, 5.4, 25, 15, 21, 18),
            polygon("#7d4f2d", 22.6, 4.6, 26, 3.8, 30.4, 9.6, 28.6, 11, 24.4, 8.6),
            polygon("#3a2414", 19.4, 13, 21.6, 5.4, 23.6, 3.4, 24.2, 5, 22.4, 12),
            polygon("#3a2414", 8.4, 13, 5.4, 15, 4.4, 23, 6.4, 23, 7.4, 17, 9.4, 15),
            ellipse("#16100b", 25.4, 5.8, 26.4, 6.8),
        ),
    ),
}


def draw(name: str, size: tuple[int, int]) -> np.ndarray:
    """A drawing by its name, as bytes (3, H, W)."""
    from PIL import Image, ImageDraw

    drawing, fine = DRAWINGS[name], SIDE * FINER
    fade = Image.new("RGB", (1, 2))
    fade.putdata([_rgb(drawing.above), _rgb(drawing.below)])
    sheet = fade.resize((fine, fine), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(sheet)
    for kind, colour, numbers in drawing.shapes:
        getattr(pen, kind)([FINER * n for n in numbers], fill=colour)
    shrunk: Any = sheet.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(shrunk).transpose(2, 0, 1).copy()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

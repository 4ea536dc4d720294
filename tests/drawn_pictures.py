"""Pictures of one's own: a folder for each of three colours, and the model that learns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_training import MODEL, no_curves

from minswin.models import SwinTransformer
from minswin.models.registry import CLASSES, MODELS
from minswin.training import loop

COLOURS = {"blue": (20, 30, 220), "green": (20, 220, 30), "red": (220, 30, 20)}


def draw(
    path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (9, 7)
) -> None:
    """A picture of one colour with a little noise, another one for each seed."""
    Image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(seed).integers(-19, 20, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + colour).astype(np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three colours, ten pictures each, of several formats and sizes."""
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(10):
            ending = ("png", "bmp", "tiff", "webp", "gif")[i % 5]
            folder = tmp_path / "pictures" / name / ("more" if i > 7 else "")
            draw(folder / f"{i}.{ending}", colour, 10 * c + i, (8 + i, 12 - i))
    return tmp_path / "pictures"


@pytest.fixture
def tiny_of_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model called "tiny", of 8×8 images; the data are read as they are."""
    monkeypatch.setitem(MODELS, "tiny", {**MODEL, "drop_path_rate": 0.0})
    monkeypatch.setitem(CLASSES, "tiny", SwinTransformer)
    monkeypatch.setattr(loop, "_draw_curves", no_curves)
    monkeypatch.chdir(tmp_path)

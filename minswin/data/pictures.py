"""Picture files as images: upright, on white, in red, green and blue of 8 bits."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from minswin import opening

ORIENTATION = 0x0112  # the tag of EXIF
# What puts a picture upright, by its orientation: the names of Pillow's transpositions.
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
MOST_PIPED = 2**28  # bytes that are read from a pipe
SMALLER, SHOWN = 256, 224  # the shorter side is 256 where the middle 224×224 are shown
LONG = 16  # times what is shown: the most that is enlarged to be cut off, for ordinary pictures
BICUBIC = 3  # Pillow's number of its bicubic filter

# The filters of warnings are those of all threads: of two that put them back in another order than
# they changed them, one would leave them changed for ever. A forked child has a lock of its own.
_LOCKS: dict[int, threading.Lock] = {}


def open_image(path: Path | str, *, who: str = "open_image") -> Any:
    """A picture file as a picture of Pillow: upright, on white, in red, green, blue of 8 bits.

    path: a file, a pipe such as /dev/stdin, or "-" for the standard input
    Raises FileNotFoundError, ValueError (no picture, a damaged one, or too large), ImportError
    """
    Image = _pillow(who)
    one_at_a_time = _LOCKS.setdefault(os.getpid(), threading.Lock())
    with _content(path, who) as content, one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags, which are not looked at
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(content) as picture:
                return _opaque(_upright(picture, Image), Image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(
                f"{who}: {path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; "
                "make it smaller first"
            ) from error
        except Exception as error:  # readers of damaged files raise IndexError and more
            raise ValueError(
                f"{who}: {path} cannot be read as a picture ({_reason(error)}); "
                "use PNG, JPEG or the like"
            ) from error


def read_image(path: Path | str, *, height: int, width: int, who: str = "read_image") -> np.ndarray:
    """A picture file as bytes (3, height, width): upright, on white, squeezed to that size."""
    return _bytes(open_image(path, who=who).resize((width, height), BICUBIC))


def prepare(path: Path | str, size: tuple[int, int], *, who: str = "prepare") -> np.ndarray:
    """A picture as bytes (3, H, W): its shorter side at 256/224 of the model's, then the middle.

    Of a long thin picture only the middle is enlarged, for the whole would take gigabytes.
    For 384 and more the whole is squeezed to the size, as the original does.
    """
    picture, (height, width) = open_image(path, who=who), size
    if min(size) >= 384:
        return _bytes(picture.resize((width, height), BICUBIC))
    scale = max(_enlarged(height) / picture.height, _enlarged(width) / picture.width)
    # the side that decides is exact, the other is cut off to whole pixels
    wide = max(int(picture.width * scale + 1e-9), width)
    high = max(int(picture.height * scale + 1e-9), height)
    left, top = round((wide - width) / 2), round((high - height) / 2)
    if wide * high <= LONG * width * height:
        resized = picture.resize((wide, high), BICUBIC)
        return _bytes(resized.crop((left, top, left + width, top + height)))
    across = left * picture.width / wide, (left + width) * picture.width / wide
    down = top * picture.height / high, (top + height) * picture.height / high
    box = across[0], down[0], across[1], down[1]  # the middle, in pixels of the picture
    return _bytes(picture.resize((width, height), BICUBIC, box=box))


def _enlarged(side: int) -> int:
    return side * SMALLER // SHOWN


def _bytes(picture: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))


# ── from the file to pixels ──────────────────────────────────────────────────────────────────────


@contextmanager
def _content(path: Path | str, who: str) -> Iterator[Any]:
    """What Pillow can read: a file, or the bytes of a pipe, where it cannot go back."""
    if str(path) == "-":
        content = sys.stdin.buffer.read(MOST_PIPED + 1)
        yield BytesIO(opening.require_some(content, path, who=who, most=MOST_PIPED))
    elif os.path.isdir(path):
        raise IsADirectoryError(f"{who}: {path} is a folder; give the path of a picture")
    elif not os.path.exists(path):
        raise FileNotFoundError(f"{who}: there is no image {path}; give the path of a picture")
    elif os.path.isfile(path):
        with opening.open_file(path, who=who) as file:
            yield file
    else:
        yield BytesIO(opening.read_bytes(path, who=who, most=MOST_PIPED))


def _upright(picture: Any, Image: Any) -> Any:
    """The picture as it is to be seen. Of EXIF only the orientation is read, and only if it can be.

    Pillow's own exif_transpose also writes all tags anew, and fails where one of them is odd.
    """
    picture.load()
    if picture.format == "TIFF":  # turned by loading; before 10.1 Pillow leaves the tag there
        return picture
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION))
    except Exception:  # EXIF that cannot be read says nothing
        turn = None
    return picture if turn is None else picture.transpose(Image.Transpose[turn])


def _opaque(picture: Any, Image: Any) -> Any:
    """A picture of any kind in red, green, blue of 8 bits, over white where it is transparent."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = Image.fromarray(_eight_bits(np.asarray(picture)))
    if {"A", "a"}.intersection(picture.getbands()) or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Greys (H, W) as bytes: whole numbers are of 16 bits, fractions are of 1, 255 or 65,535."""
    scales = (65_535,) if grey.dtype.kind in "iu" else (1, 255, 65_535)
    low, high = grey.min(), grey.max()
    full = next((scale for scale in scales if 0 <= low and high <= scale), None)
    if full is None:
        raise ValueError(f"its greys lie in {low} to {high}, expected 0 to 65535")
    return np.rint(grey * (255 / full)).astype(np.uint8)


def _reason(error: Exception) -> str:
    """In words; errors that are not meant for people get their kind in front."""
    if type(error).__name__ == "UnidentifiedImageError":  # it quotes the name, or an address
        return "no kind of picture that Pillow knows"
    meant = isinstance(error, (OSError, ValueError, SyntaxError))
    return str(error) if meant and str(error) else f"{type(error).__name__}: {error}"


def _pillow(who: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f'{who}: pillow is missing; pip install "minswin[plot]"') from error
    return Image

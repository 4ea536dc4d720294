"""CIFAR-10 in little room: 1.66 MB for a thousand images, to carry to a machine without a network.

    python tests/pack_cifar.py FOLDER OUT test_batch data_batch_1 …   OUT/NAME.xz of FOLDER/NAME.bin
    python tests/pack_cifar.py --unpack OUT FOLDER                    and back

A pixel is guessed from its three neighbours as JPEG-LS does, red and blue as differences from
green, and what is left goes through LZMA. Nothing is lost.
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path

import numpy as np

SIDE = 32
BYTES = 1 + 3 * SIDE * SIDE  # of an image: its label, then red, green and blue


def guess(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The median edge detector.                       Weinberger et al. 2000, LOCO-I, eq. (1)"""
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.where(corner >= high, low, np.where(corner <= low, high, left + up - corner))


def pack(raw: bytes) -> bytes:
    """A file of CIFAR-10's binary form, as bytes that `unpack` understands."""
    rows = np.frombuffer(raw, np.uint8).reshape(-1, BYTES)
    red, green, blue = rows[:, 1:].reshape(-1, 3, SIDE, SIDE).astype(np.int16).swapaxes(0, 1)
    rest = [_rest(plane) for plane in (green, red - green, blue - green)]
    return lzma.compress(rows[:, 0].tobytes() + np.stack(rest).tobytes(), preset=6)


def _rest(plane: np.ndarray) -> np.ndarray:
    """What the guess leaves over, modulo 256; outside of the picture all is 0."""
    around = np.pad(plane, ((0, 0), (1, 0), (1, 0)))
    known = guess(around[:, 1:, :-1], around[:, :-1, 1:], around[:, :-1, :-1])
    return ((plane - known) & 255).astype(np.uint8)


def unpack(packed: bytes) -> bytes:
    data = np.frombuffer(lzma.decompress(packed), np.uint8)
    count = len(data) // BYTES
    rest = data[count:].reshape(3, count, SIDE, SIDE).astype(np.int16)
    green = _plane(rest[0], np.zeros_like(rest[0]))
    planes = _plane(rest[1], green), green, _plane(rest[2], green)
    images = np.stack(planes, 1).reshape(count, -1).astype(np.uint8)
    return np.concatenate([data[:count, None], images], 1).tobytes()


def _plane(rest: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The numbers whose differences from `base` were guessed, pixel by pixel of all images."""
    plane = np.empty_like(rest)
    around = np.zeros((len(rest), SIDE + 1, SIDE + 1), np.int16)  # the differences
    for i in range(SIDE):
        for j in range(SIDE):
            known = guess(around[:, i + 1, j], around[:, i, j + 1], around[:, i, j])
            plane[:, i, j] = (rest[:, i, j] + known + base[:, i, j]) & 255
            around[:, i + 1, j + 1] = plane[:, i, j] - base[:, i, j]
    return plane


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--unpack", action="store_true")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("names", nargs="*", help="of files without .bin; with --unpack all")
    chosen = parser.parse_args(arguments)
    chosen.target.mkdir(parents=True, exist_ok=True)
    if chosen.unpack:
        for file in sorted(chosen.source.glob("*.xz")):
            (chosen.target / f"{file.stem}.bin").write_bytes(unpack(file.read_bytes()))
        return
    for name in chosen.names:
        raw = (chosen.source / f"{name}.bin").read_bytes()
        packed = pack(raw)
        if unpack(packed) != raw:
            raise RuntimeError(f"pack_cifar: {name} does not come back as it was")
        (chosen.target / f"{name}.xz").write_bytes(packed)
        print(name, len(raw), len(packed))


if __name__ == "__main__":
    main()

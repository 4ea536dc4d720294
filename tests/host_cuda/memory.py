"""The memory of the device: memory of the CPU, with a guard before and behind every piece."""

from __future__ import annotations

import ctypes
from bisect import bisect_right, insort
from typing import NamedTuple

import numpy as np

GUARD = 512  # bytes on either side; CuPy expects addresses that are multiples of 512
CANARY = 0x5A
WHOLE = bytes([CANARY]) * GUARD  # a guard as it was made


class Piece(NamedTuple):
    """What one malloc gave: bytes, of which `size` from `address` on are the caller's."""

    address: int
    size: int
    filled: bool
    room: np.ndarray  # the bytes, guards and all

    def guards(self) -> tuple[int, int]:
        """Their addresses."""
        return self.address - GUARD, self.address + self.size

    def fill(self) -> None:
        if self.filled:
            ctypes.memset(self.address, 0xFF, self.size)


class WroteBeside(AssertionError):
    """Something wrote into the guard of a piece of memory."""


class Memory:
    """All pieces that are in use. New and freed memory is NaN, whatever type of float reads it."""

    def __init__(self) -> None:
        self.pieces: dict[int, Piece] = {}
        self.order: list[int] = []  # their addresses, sorted
        self.used = self.peak = 0
        self.filled = True  # False: leave the bytes alone, so that large arrays take no memory

    def allocate(self, size: int) -> int:
        room = np.empty(size + 3 * GUARD, np.uint8)
        address = (room.ctypes.data + 2 * GUARD - 1) // GUARD * GUARD
        piece = Piece(address, size, self.filled, room)
        for guard in piece.guards():
            ctypes.memmove(guard, WHOLE, GUARD)
        piece.fill()
        self.pieces[address] = piece
        insort(self.order, address)
        self.used += size
        self.peak = max(self.peak, self.used)
        return address

    def release(self, address: int) -> None:
        if address == 0:
            return
        self.check(address, "something before free")
        piece = self.pieces.pop(address)
        del self.order[bisect_right(self.order, address) - 1]
        self.used -= piece.size
        piece.fill()

    def piece_of(self, address: int) -> Piece | None:
        """The piece in which an address lies, or just behind which."""
        place = bisect_right(self.order, address) - 1
        if place < 0:
            return None
        piece = self.pieces[self.order[place]]
        return piece if address <= piece.address + piece.size else None

    def check(self, address: int, who: str) -> None:
        """Raise where a guard of the piece of this address is not as it was."""
        piece = self.piece_of(address)
        if piece is None:
            return
        for guard, side in zip(piece.guards(), ("before", "behind"), strict=True):
            if ctypes.string_at(guard, GUARD) != WHOLE:
                ctypes.memmove(guard, WHOLE, GUARD)
                raise WroteBeside(f"{who} wrote {side} an array of {piece.size} bytes")

    def check_all(self, who: str) -> None:
        for address in self.order:
            self.check(address, who)


def view(address: int, size: int) -> np.ndarray:
    """Bytes of the memory of this process."""
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), np.uint8)

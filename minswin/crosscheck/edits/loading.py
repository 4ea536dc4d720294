"""What may have happened to weights before the run: mistakes of loading stand in no text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray


class Loaded:
    """Weights that are loaded otherwise: for every parameter whose name ends in `name`.

    A name that ends in a layer is that of its weight and bias.
    """

    def __init__(self, layer: Any, name: str, words: str, change: Any, rank: float) -> None:
        self.layer, self.name, self.words, self.change, self.rank = layer, name, words, change, rank

    @contextmanager
    def planted(self) -> Iterator[None]:
        before = [(p, p.data) for _, p in self._chosen(self.layer)]
        try:
            for p, data in before:
                p.data = np.ascontiguousarray(self.change(data))
            yield
        finally:
            for p, data in before:
                p.data = data

    def _chosen(self, layer: Any) -> list[tuple[str, Any]]:
        end = re.compile(rf"(.*\.)?{re.escape(self.name)}(\.weight|\.bias)?")
        return [(n, p) for n, p in layer.named_parameters() if end.fullmatch(n)]

    @property
    def diff(self) -> str:
        return f"- {self.name}\n+ {self.name}, {self.words}"

    place = "the weights"

    @property
    def cost(self) -> tuple[float, int]:
        return self.rank, len(self.diff)


class Shared(Loaded):
    """One layer in all places of its kind: what a name that is given again in a loop leaves."""

    def __init__(self, layer: Any, places: list[str], donor: str, words: str) -> None:
        super().__init__(layer, places[0], words, None, 5)
        self.places, self.donor = places, donor

    def _chosen(self, layer: Any) -> list[tuple[str, Any]]:
        return [(n, p) for place in self.places for n, p in _below(layer, place)]

    @contextmanager
    def planted(self) -> Iterator[None]:
        own, given = self._chosen(self.layer), _below(self.layer, self.donor)
        before = [p.data for _, p in own]
        try:
            for (_, p), (_, other) in zip(own, given * len(self.places), strict=True):
                p.data = other.data
            yield
        finally:
            for (_, p), data in zip(own, before, strict=True):
                p.data = data

    @property
    def diff(self) -> str:
        return "\n".join(f"- {place}\n+ {self.donor}" for place in self.places)


def _below(layer: Any, path: str) -> list[tuple[str, Any]]:
    return [(n, p) for n, p in layer.named_parameters() if n.startswith(path + ".")]


def shared(layer: Any) -> Iterator[Shared]:
    """The first or the last of several layers, or of their parts, in the place of all."""
    lists: dict[tuple[str, str], list[str]] = {}
    for path, _ in layer.named_layers():
        if found := re.fullmatch(r"((?:.*\.)?[a-z]\w*)\.\d+((?:\.[a-z]\w*)?)", path):
            lists.setdefault((found[1], found[2]), []).append(path)
    for places in lists.values():
        shapes = {tuple(p.shape for _, p in _below(layer, place)) for place in places}
        if len(places) > 1 and len(shapes) == 1 and shapes != {()}:
            for which, donor in (("last", places[-1]), ("first", places[0])):
                others = [place for place in places if place != donor]
                yield Shared(layer, others, donor, f"the {which} stands in the place of the others")


def loadings(layer: Any) -> Iterator[Loaded]:
    """Changes of the parameters of a layer, by the last two parts of their names.

    Rows of a linear map in another order are those of its weight and its bias.
    """
    yield from shared(layer)
    shapes: dict[str, tuple[int, ...]] = {}
    for full, p in layer.named_parameters():
        shapes.setdefault(".".join(full.split(".")[-2:]), p.shape)
    for name, shape in shapes.items():
        for words, change, rank in _changes(shape):
            yield Loaded(layer, name, words, change, rank)
        linear = name.removesuffix(".weight")
        if linear != name and len(shape) == 2:
            for words, change, rank in _orders(shape[0]):
                yield Loaded(layer, linear, words, change, rank)
        if "pos" in name:
            for words, change in _grids(shape):
                yield Loaded(layer, name, words, change, 2.5)


def _grids(shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """Positions (..., N, C) of a grid that are counted by columns; a class token in front stays."""
    for first in (0, 1):
        N = shape[-2] - first if len(shape) > 1 else 0
        for rows in range(2, N):
            if N % rows == 0 and N > rows:
                said = f"positions of {rows} rows counted by columns"
                yield said, partial(_by_columns, first=first, rows=rows)


def _by_columns(x: Array, first: int, rows: int) -> Array:
    *lead, N, C = x.shape
    grid = x[..., first:, :].reshape(*lead, rows, -1, C).swapaxes(-2, -3)
    return np.concatenate([x[..., :first, :], grid.reshape(*lead, N - first, C)], axis=-2)


def _changes(shape: tuple[int, ...]) -> Iterator[tuple[str, Any, float]]:
    yield "all zero", lambda x: 0 * x, 2.2
    yield "of the other sign", lambda x: -x, 4
    if len(shape) == 1:
        yield "all one", lambda x: 0 * x + 1, 2.5
        yield "one more, or less the one of a gain", lambda x: x + 1, 4
    if len(shape) == 2 and shape[0] % shape[1] == 0 and shape[0] // shape[1] <= 3:
        yield "transposed", _transposed, 2.2
        yield "nothing but its diagonal", lambda x: x * np.eye(*x.shape), 4
    if len(shape) == 2:
        yield "read in the other order", lambda x: x.T.reshape(x.shape), 3
        yield "read in the other order", lambda x: x.reshape(x.T.shape).T, 3
    if len(shape) == 4:
        yield "channels in the other order (blue, green, red)", lambda x: x[:, ::-1], 2.2
        yield "rows and columns of the filters exchanged", _square_swap, 2.5
        yield "channels last", lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape), 2.5
        yield "channels last", _from_last, 2.5
        yield "turned by 180° (a true convolution)", lambda x: x[:, :, ::-1, ::-1], 2.5
    if len(shape) <= 2 and shape[0] % 3 == 0:
        for which in range(3):
            yield f"the third {'qkv'[which]} zero", _zero_third(which), 2.5


def _orders(rows: int) -> Iterator[tuple[str, Any, float]]:
    """The rows of a linear map in another order."""
    if rows % 3 == 0:
        for order in itertools.permutations(range(3)):
            if order != (0, 1, 2):
                said = ", ".join("qkv"[i] for i in order)
                yield f"the thirds in the order {said}", _thirds(order), 2.5
    if rows % 2 == 0:
        yield "the halves exchanged", _halves, 3
    for parts, said in ((3, "q, k and v"), (2, "q and k")):
        for heads in (2, 3, 4, 6, 8):
            if rows % (parts * heads) == 0:
                yield f"{said} interleaved by {heads} heads", _interleaved(heads, parts), 3


def _square_swap(x: Array) -> Array:
    return x.transpose(0, 1, 3, 2) if x.shape[2] == x.shape[3] else x


def _from_last(x: Array) -> Array:
    D, C, h, w = x.shape
    return x.reshape(D, h, w, C).transpose(0, 3, 1, 2)


def _transposed(x: Array) -> Array:
    """Of a weight of several square maps each."""
    return np.concatenate([part.T for part in np.split(x, len(x) // x.shape[1])])


def _thirds(order: tuple[int, ...]) -> Any:
    return lambda x: np.concatenate([np.split(x, 3)[i] for i in order])


def _zero_third(which: int) -> Any:
    def change(x: Array) -> Array:
        x = np.array(x)
        x[which * len(x) // 3 : (which + 1) * len(x) // 3] = 0
        return x

    return change


def _halves(x: Array) -> Array:
    return np.concatenate(np.split(x, 2)[::-1])


def _interleaved(heads: int, parts: int) -> Any:
    def change(x: Array) -> Array:
        cut = x.reshape(heads, parts, -1, *x.shape[1:])
        return np.swapaxes(cut, 0, 1).reshape(x.shape)

    return change

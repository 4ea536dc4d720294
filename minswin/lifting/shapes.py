"""The shape line of a docstring, read and checked, so that docs and check cannot disagree.

    x (..., K)   weight (M, K)   bias (M,) or None        gives (..., M)

A letter is one size in all arrays of a call, a number is itself; `...` and `*name` are any number
of axes, the same wherever they stand. `->` is "broadcasts to". A word behind a shape is what the
array holds: integers, bool, flags (bool or integers), floats; without a word it holds numbers.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

KINDS = {"integers": "iu", "bool": "b", "flags": "iub", "floats": "f", "numbers": "fiub"}
_SHAPE = rf"\(([^()]*)\)(?: ({'|'.join(KINDS)}))?"
_ENTRY = re.compile(rf"((?:\w+, )*\w+) (-> )?({_SHAPE}(?: or {_SHAPE})*)( or None)?")

Sizes = dict[str, Any]  # letter -> size, "..." or "*name" -> sizes


class Form(NamedTuple):
    """One of the shapes that an argument may have."""

    axes: tuple[str, ...]  # ("...", "K")
    kind: str  # one of KINDS
    broadcasts: bool


class Argument(NamedTuple):
    """An array that an operation takes by position."""

    name: str
    forms: tuple[Form, ...] = ()  # (): any shape
    optional: bool = False
    order: int = 0  # in the docstring: the letters of the first are known to the next

    def form(self, rank: int) -> Form:
        """The form for an array of this rank, as far as the rank can tell."""
        fitting = (f for f in self.forms if len(f.axes) == rank)
        return next(fitting, self.forms[0] if self.forms else ANY)


ANY = Form(("...",), "numbers", False)


def arguments_of(function: Callable[..., Any]) -> tuple[Argument, ...]:
    """The positional arguments of a function, as its docstring describes them."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    read = enumerate(_read(inspect.getdoc(function) or "", names))
    described = {argument.name: argument._replace(order=i) for i, argument in read}
    return tuple(described.get(name, Argument(name)) for name in names)


def _read(docstring: str, names: Sequence[str]) -> Iterator[Argument]:
    for words, arrow, shapes, *_, optional in _ENTRY.findall(docstring):
        described = [word for word in words.split(", ") if word in names]
        forms = tuple(
            Form(tuple(re.findall(r"[^,\s]+", axes)), kind or "numbers", bool(arrow))
            for axes, kind in re.findall(_SHAPE, shapes)
        )
        yield from (Argument(name, forms, bool(optional)) for name in described)


def check(
    who: str, arguments: Sequence[Argument], arrays: Sequence[Any], hints: Mapping[str, str]
) -> None:
    """Raise where an array has a shape that the letters of the others do not allow.

    hints: what to do, by the name of the argument
    """
    sizes: Sizes = {}
    pairs = zip(arguments, arrays, strict=False)
    for argument, array in sorted(pairs, key=lambda pair: pair[0].order):
        if array is None and argument.optional:
            continue
        bound = None if array is None else _bind_one(argument.forms, array.shape, sizes)
        if bound is None:
            came = "None" if array is None else array.shape
            hint = f"; {hints[argument.name]}" if argument.name in hints else ""
            wanted = _wanted(argument, sizes)
            raise ValueError(f"{who}: {argument.name} must {wanted}, got {came}{hint}")
        sizes = bound


def _bind_one(forms: tuple[Form, ...], shape: tuple[int, ...], sizes: Sizes) -> Sizes | None:
    """The sizes after one of the forms that the shape fits; None where it fits none."""
    if not forms:
        return sizes
    bound = ((_broadcast if form.broadcasts else _bind)(form.axes, shape, sizes) for form in forms)
    return next((new for new in bound if new is not None), None)


def _bind(axes: tuple[str, ...], shape: tuple[int, ...], sizes: Sizes) -> Sizes | None:
    """The sizes and those that the shape gives to the letters of `axes`; None where they differ."""
    sizes = dict(sizes)
    for axis in axes:
        if _many(axis) and axis not in sizes:  # what the other axes leave
            front = len(_expand(axes[: axes.index(axis)], sizes))
            count = len(shape) - len(_expand(axes, sizes)) + 1
            sizes[axis] = shape[front : front + max(count, 0)]
    expanded = _expand(axes, sizes)
    if len(expanded) != len(shape):
        return None
    for axis, size in zip(expanded, shape, strict=True):
        if (int(axis) if axis.isdigit() else sizes.setdefault(axis, size)) != size:
            return None
    return sizes


def _broadcast(axes: tuple[str, ...], shape: tuple[int, ...], sizes: Sizes) -> Sizes | None:
    """The sizes, if the shape broadcasts to the axes, whose letters are known; else None."""
    target = [int(a) if a.isdigit() else sizes[a] for a in _expand(axes, sizes)]
    return sizes if broadcasts(shape, target) else None


def broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether an array of this shape can be repeated to the target's."""
    tail = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(
        size in (1, wanted) for size, wanted in zip(shape, tail, strict=True)
    )


def _expand(axes: tuple[str, ...], sizes: Sizes) -> list[str]:
    """The axes, `...` and `*name` replaced by their sizes."""
    expanded: list[str] = []
    for axis in axes:
        expanded += map(str, sizes[axis]) if _many(axis) and axis in sizes else [axis]
    return expanded


def _many(axis: str) -> bool:
    return axis == "..." or axis.startswith("*")


def _wanted(argument: Argument, sizes: Sizes) -> str:
    """The forms of an argument in words, with the sizes that are known."""
    texts = []
    for form in argument.forms:
        axes = [f"{a}={sizes[a]}" if a in sizes else a for a in _expand(form.axes, sizes)]
        kind = "" if form.kind == "numbers" else f" {form.kind}"
        texts.append(f"({', '.join(axes)}{',' * (len(axes) == 1)}){kind}")
    how = "broadcast to" if argument.forms[:1] and argument.forms[0].broadcasts else "be"
    return f"{how} {' or '.join(texts) or 'an array'}{' or None' if argument.optional else ''}"

"""How an operation is called (data by position, settings by keyword), and what does not fit."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from minswin.lifting import shapes

MOST_CALLS = 1000  # combinations of shapes that an operation remembers as right


class Call(NamedTuple):
    """What the signature and the docstring of a definition say about its calls."""

    name: str
    arguments: tuple[shapes.Argument, ...]
    signature: inspect.Signature
    pairs: set[str]  # settings that are pairs of ints
    switches: frozenset[str]
    hints: Mapping[str, str]  # what to do, by the name of a wrong argument

    def check(self, inputs: Sequence[Any], arrays: Sequence[Any], settings: dict[str, Any]) -> None:
        """Raise where the inputs, their shapes or the names of the settings do not fit."""
        check_call(self.name, self.signature, inputs, settings)
        shapes.check(self.name, self.arguments, arrays, self.hints)


def remember(right: set[tuple[Any, ...]], call: tuple[Any, ...]) -> None:
    right.add(call)
    if len(right) > MOST_CALLS:
        right.clear()


def named(name: str, error: Exception, sizes: Sequence[Any]) -> Exception:
    """The error of a definition, in the name of its operation and with the shapes that came."""
    kind = type(error) if type(error) in (TypeError, IndexError) else ValueError
    came = ", ".join(map(str, sizes))
    return kind(f"{name}: {error}; the inputs have the shapes {came}")


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, with its data by position only."""
    signature = inspect.signature(function)
    parameters = [
        p.replace(kind=p.POSITIONAL_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p
        for p in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def check_call(
    name: str, signature: inspect.Signature, inputs: Sequence[Any], settings: dict[str, Any]
) -> None:
    try:
        signature.bind(*inputs, **settings)
        if not inputs:
            raise TypeError
    except TypeError:
        names = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        shown = signature.replace(parameters=names, return_annotation=signature.empty)
        why = _misfit(signature, inputs, settings)
        raise TypeError(f"{name}{shown}: {why}; data go by position") from None


def _misfit(signature: inspect.Signature, inputs: Sequence[Any], settings: dict[str, Any]) -> str:
    """Why a call does not fit; Python's own words for it differ from version to version."""
    parameters = signature.parameters.values()
    data = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    for key in settings:
        if key in (p.name for p in data):
            return f"{key!r} was given by keyword"
        if key not in signature.parameters:
            near = difflib.get_close_matches(key, signature.parameters, n=1)
            return f"unknown setting {key!r}" + (f", did you mean {near[0]!r}?" if near else "")
    missing = [p.name for p in data[len(inputs) :] if p.default is p.empty]
    missing += [
        f"{p.name}="
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in settings
    ]
    if missing:
        return f"missing {', '.join(missing)}"
    if not inputs:
        return "expected one input or more"
    return f"expected at most {len(data)} inputs, got {len(inputs)}"

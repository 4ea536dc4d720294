"""Known mistakes of ports, each as the formula that the mistaken program computes.

A mistake belongs to one or more kinds of step. It has the signature of a formula, (step, *inputs),
and gives what the step would be. `threads` name public places where others met it: owner/repo#N.
The catalogue is spread over the files beside this one, by parts of the model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Formula = Callable[..., Array]
PARTS = ("moves", "bias", "attention", "layers")


class Mistake(NamedTuple):
    """One thing that goes wrong in ports."""

    name: str  # "the map is rolled down and right"
    kinds: tuple[str, ...]
    formula: Formula
    remedy: str  # what to change
    threads: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # neighbours of the step whose values come after its inputs


MISTAKES: list[Mistake] = []


def mistake(
    name: str, *kinds: str, remedy: str, threads: str = "", also: str = ""
) -> Callable[[Formula], Formula]:
    """Decorator: enter a formula as a known mistake in steps of these kinds."""

    def enter(formula: Formula) -> Formula:
        told = tuple(threads.split())
        MISTAKES.append(Mistake(name, kinds, formula, remedy, told, tuple(also.split())))
        return formula

    return enter


Recogniser = Callable[..., bool]


class Sign(NamedTuple):
    """A mistake of which no formula can say what it gives, but which can be seen in the result."""

    mistake: Mistake
    seen: Recogniser  # (step, theirs, right, *inputs) -> whether it looks like this


SIGNS: list[Sign] = []


def sign(
    name: str, *kinds: str, remedy: str, threads: str = ""
) -> Callable[[Recogniser], Recogniser]:
    """Decorator: enter a recogniser; no kinds means every kind."""

    def enter(seen: Recogniser) -> Recogniser:
        SIGNS.append(Sign(Mistake(name, kinds, _none, remedy, tuple(threads.split())), seen))
        return seen

    return enter


def _none(*_: Array) -> Array:
    raise NotImplementedError("a sign has no formula")


def known() -> list[Mistake]:
    """The whole catalogue."""
    for part in PARTS:
        importlib.import_module(f"minswin.crosscheck.mistakes.{part}")
    return MISTAKES


def signs() -> list[Sign]:
    known()
    return SIGNS

"""How arguments are read: numbers, pairs, generators. `who` asks for `name`; errors quote both."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, wraps
from inspect import signature
from typing import Any, TypeVar, cast

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Pair = tuple[int, int]
Drawing = np.random.SeedSequence | np.random.BitGenerator | np.random.Generator
Seed = Drawing | int | Sequence[int] | None  # what np.random.default_rng takes


# ── whole numbers and pairs ──────────────────────────────────────────────────────────────────────


def whole(who: str, name: str, value: Any, least: int = 1) -> int:
    """An int of `least` or more, Python's or NumPy's."""
    if not _is_whole(value, least):
        kind = "a positive int" if least == 1 else f"an int of {least} or more"
        raise ValueError(f"{who}: {name} must be {kind}, got {value!r}")
    return int(value)


def pair(who: str, name: str, value: int | Pair, least: int = 1) -> Pair:
    """(height, width) from an int, which means a square, or from two ints."""
    sizes = value if isinstance(value, (tuple, list)) else (value, value)
    if len(sizes) != 2 or not all(_is_whole(n, least) for n in sizes):
        kind = "a positive int" if least == 1 else f"an int of {least} or more"
        raise ValueError(f"{who}: {name} must be {kind} or a pair, got {value!r}")
    return int(sizes[0]), int(sizes[1])


def stages(who: str, name: str, value: Any, least: int = 1) -> tuple[int, ...]:
    """One int for every stage, `least` or more."""
    several = isinstance(value, (tuple, list)) and len(value) > 0
    if not several or not all(_is_whole(n, least) for n in value):
        raise ValueError(
            f"{who}: {name} must be one int of {least} or more per stage, got {value!r}"
        )
    return tuple(int(n) for n in value)


def _is_whole(value: Any, least: int) -> bool:
    """True and 2.0 are not meant to be an int."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return integer and int(value) >= least


# ── real numbers: nan is in no range ─────────────────────────────────────────────────────────────


def finite(who: str, name: str, value: Any) -> float:
    return _number(who, name, value, "a finite number", lambda x: True)


def at_least_zero(who: str, name: str, value: Any) -> float:
    return _number(who, name, value, "a number of 0 or more", lambda x: x >= 0)


def positive(who: str, name: str, value: Any) -> float:
    return _number(who, name, value, "a positive number", lambda x: x > 0)


def fraction(who: str, name: str, value: Any) -> float:
    return _number(who, name, value, "in [0, 1]", lambda x: 0 <= x <= 1)


def below_one(who: str, name: str, value: Any) -> float:
    return _number(who, name, value, "0 or more and below 1", lambda x: 0 <= x < 1)


def _number(who: str, name: str, value: Any, expected: str, fits: Any) -> float:
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and fits(number)):
        raise ValueError(f"{who}: {name} must be {expected}, got {value!r}")
    return number


# ── choices, randomness ──────────────────────────────────────────────────────────────────────────


def one_of(who: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{who}: {name} must be one of {', '.join(choices)}, got {value!r}")
    return str(value)


def switch(who: str, name: str, value: Any) -> bool:
    """A bool from one of Python's or NumPy's, or from 1 or 0: a word such as 'no' is refused."""
    known = isinstance(value, (bool, np.bool_, int, np.integer))
    if not known or value not in (0, 1):
        raise ValueError(f"{who}: {name} must be True or False, got {value!r}")
    return bool(value)


@cache
def switches_of(function: Callable[..., Any]) -> frozenset[str]:
    """The arguments of a function, or of the constructors of a class, annotated as a bool.

    What two constructors have by one name is what the lower class says it is.
    """
    functions = [function]
    if isinstance(function, type):
        own = (vars(base).get("__init__") for base in function.__mro__)
        functions = [f for f in own if f is not None]
    kinds: dict[str, Any] = {}
    for each in functions:
        for p in signature(each).parameters.values():
            kinds.setdefault(p.name, p.annotation)
    return frozenset(name for name, kind in kinds.items() if kind in (bool, "bool"))


def read_switches(who: str, names: Iterable[str], settings: dict[str, Any]) -> None:
    """Make bools of those of `settings` that are switches, in place."""
    for name in names:
        if name in settings:
            settings[name] = switch(who, name, settings[name])


def checks_switches(function: F) -> F:
    """Decorator: what is annotated as a bool, and given by keyword, is one before anything runs."""
    who = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*inputs: Any, **settings: Any) -> Any:
        read_switches(who, switches_of(function), settings)
        return function(*inputs, **settings)

    return cast(F, checked)


def plain(value: Any) -> Any:
    """Numbers of NumPy's as Python's, which JSON can hold, in tuples and lists too."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


_VALUES = {"true": True, "false": False, "none": None}  # as Python and as JSON write them
NO_SETTINGS = {  # of a model, though create_model takes them
    "name": "which model it is says --model",
    "rng": "random numbers are no setting of a model",
    "dtype": "the precision is no setting of a model",
}
_INSTEAD = {  # what a command has for them
    ("train", "rng"): "; minswin train has --seed for them",
    ("train", "dtype"): "; minswin train has --precision for it",
    ("trace", "rng"): "; minswin trace draws none, its weights are the recipe's or of --weights",
    ("trace", "dtype"): "; minswin trace computes in float64, and with --float32 in both",
}


def settings_in(who: str, texts: Iterable[str]) -> dict[str, Any]:
    """Settings of a model from texts name=value: a number, a tuple, true, or a plain word."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if name in NO_SETTINGS:
            why = NO_SETTINGS[name] + _INSTEAD.get((who, name), "")
            raise ValueError(f"{who}: --set {name}: {why}, got {text!r}")
        try:
            if not name.isidentifier():
                raise ValueError
            if value.lower() in _VALUES:
                settings[name] = _VALUES[value.lower()]
            else:
                settings[name] = value if value.isidentifier() else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(
                f"{who}: --set needs name=value with a Python value or a word, got {text!r}"
            ) from None
    return settings


def generator(who: str, rng: Seed) -> np.random.Generator:
    """NumPy's convention: a Generator is used itself, a seed begins one, None a random one."""
    if hasattr(rng, "standard_normal") and not isinstance(rng, (type, np.random.RandomState)):
        return cast(np.random.Generator, rng)  # also what stands in for a Generator
    try:
        if isinstance(rng, bool):
            raise TypeError("True and False are no seeds")
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{who}: rng must be None, an int of 0 or more, a SeedSequence or a Generator, "
            f"got {rng!r} ({error})"
        ) from None

"""Put a wrong function in the place of a right one, everywhere, and take it out again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import pytest

from minswin import kernels
from minswin.arrays import Definition
from minswin.lifting import OPERATIONS
from minswin.reference.windows import attention_mask, relative_position_index, shift_regions

# Where functions are looked for. The oracles use none of ours; the faults need the right ones.
HOMES = (
    "minswin",
    "drawn",
    "test_geometry",
    "test_mask",
    "test_attention_laws",
    "test_layer_laws",
    "test_model_laws",
    "test_costs",
)


class Fault(NamedTuple):
    """`wrong` in the place of `right` must turn every test of `red` red."""

    name: str
    right: Callable[..., Any]
    wrong: Callable[..., Any]
    red: tuple[Callable[[], None], ...]
    shows: tuple[type[Exception], ...]


FAULTS: list[Fault] = []


def plant(
    right: Callable[..., Any],
    *red: Callable[[], None],
    shows: tuple[type[Exception], ...] = (AssertionError,),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: enter a wrong function in FAULTS, with the tests that must notice it."""

    def enter(wrong: Callable[..., Any]) -> Callable[..., Any]:
        FAULTS.append(Fault(wrong.__name__.replace("_", " "), right, wrong, red, shows))
        return wrong

    return enter


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Inside, every module, class and kernel table that held `right` holds `wrong`."""
    with pytest.MonkeyPatch.context() as patch, kernels.using("reference"):
        places = list(_places(fault.right))
        assert places, f"nothing refers to {fault.right}"
        for owner, name in places:
            patch.setattr(owner, name, fault.wrong)
        for operation in OPERATIONS.values():
            if operation.definition is fault.right:
                patch.setattr(operation, "definition", fault.wrong)
        _forget()
        try:
            yield
        finally:
            _forget()


def _places(right: Callable[..., Any]) -> Iterator[tuple[Any, str]]:
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] in HOMES]
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    for owner in (*modules, *classes):
        for name, value in vars(owner).items():
            if value is right:
                yield owner, name


def _forget() -> None:
    """Empty the caches: what they hold was made by the other function."""
    for cached in (attention_mask, relative_position_index, shift_regions):
        cached.cache_clear()


def by_moving(move: Callable[..., np.ndarray]) -> Definition:
    """A definition that only moves elements, as `move` does, with the derivative that fits it."""

    @wraps(move)
    def definition(x: np.ndarray, **settings: Any) -> tuple[np.ndarray, Any]:
        source = move(np.arange(x.size).reshape(x.shape), **settings)

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            dx = np.zeros(x.size, dtype=x.dtype)
            np.add.at(dx, source, g)
            return (dx.reshape(x.shape),)

        return x.ravel()[source], vjp

    return definition

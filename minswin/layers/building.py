"""How a layer is built: from `init`, or from rng= and dtype=; then what it holds is checked."""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

from minswin.arguments import read_switches, switches_of
from minswin.layers.parameters import Init


class Built(type):
    """The class of Layer's classes: `Linear(3, 4, rng=0)` runs `__call__` of this."""

    def __call__(cls, *inputs: Any, **settings: Any) -> Any:
        read_switches(cls.__name__, switches_of(cls), settings)
        if "init" not in settings and _takes_init(cls):
            keywords = {k: settings.pop(k) for k in ("rng", "dtype") if k in settings}
            settings["init"] = Init(**keywords, who=cls.__name__)
        layer = super().__call__(*inputs, **settings)
        try:
            layer._check()
        except RecursionError:
            raise TypeError(
                f"{cls.__name__}: a list or dict in it holds itself, so its parameters have no end "
                "of names; hold each once"
            ) from None
        return layer


@cache
def _takes_init(family: type) -> bool:
    for base in family.__mro__:
        if "__init__" in vars(base):
            parameters = signature(base.__init__).parameters  # type: ignore[misc]
            passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            if "init" in parameters or not passes_on:
                return "init" in parameters
    return False

"""Which functions of our text a run goes through."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2]
PARTS = ("composites.py", "layers", "models", "reference", "training")
SKIPPED = {  # they check, count or only hand on
    "as_images", "patch_grid", "pair", "whole", "stages", "one_of", "generator", "check_dtype",
    "mlp_width", "check_map", "check_heads", "check_divides", "erf", "_polynomial", "_named",
    "named_parameters", "named_buffers", "named_layers", "children", "load_state_dict",
    "state_dict", "layers_within", "train", "eval", "normal", "_array", "array_module",
    "zeros", "ones", "uniform", "parameters", "zero_grad", "_frozen", "active",
}  # fmt: skip
PLAIN = {  # one line that is the operation itself
    "add", "subtract", "multiply", "divide", "power", "reshape", "transpose", "getitem", "astype",
    "unbroadcast", "swap",
}  # fmt: skip


@cache
def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).parts[0] in PARTS


def functions_of(run: Callable[[], Any], also: tuple[str, ...] = ()) -> list[types.FunctionType]:
    """The functions of our text that a run goes through, in the order of their first call.

    also: ends of the names of further files
    """
    codes: dict[types.CodeType, None] = {}

    def see(frame: types.FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and (_is_ours(file) or file.endswith(also or ("?",))):
            codes.setdefault(frame.f_code)

    forget()  # what was kept does not run
    watched(run, see)
    known = known_functions(also)
    found = [known[code] for code in codes if code in known]
    return [f for f in found if f.__name__ not in SKIPPED | PLAIN and "check" not in f.__name__]


def known_functions(also: tuple[str, ...] = ()) -> dict[types.CodeType, types.FunctionType]:
    """Functions of our text that stand for themselves: no closures, no lambdas."""
    modules = frozenset((n, id(m)) for n, m in sys.modules.items() if n.startswith("minswin"))
    return {f.__code__: f for f in _functions(modules, also)}  # codes change when one is edited


@lru_cache(maxsize=4)
def _functions(modules: frozenset[Any], also: tuple[str, ...]) -> list[types.FunctionType]:
    """Looked for once while the same modules are loaded: to go through all objects takes long."""
    gc.collect()  # texts that were tried before and given up are functions as well
    everything = (f for f in gc.get_objects() if type(f) is types.FunctionType)
    return [
        f
        for f in everything
        if _is_ours(f.__code__.co_filename) or f.__code__.co_filename.endswith(also or ("?",))
        if "<" not in f.__qualname__
        if set(f.__code__.co_freevars) <= {"__class__"}
    ]


@cache
def _caches() -> list[Any]:
    modules = [m for n, m in sys.modules.items() if n.startswith("minswin")]
    modules = [m for m in modules if "crosscheck" not in m.__name__]
    return [v for m in modules for v in vars(m).values() if hasattr(v, "cache_clear")]


def watched(run: Callable[[], Any], see: Callable[[types.FrameType, str, Any], None]) -> None:
    """run(), in which `see` is told of each call and return."""
    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)


def forget(edited: types.FunctionType | None = None) -> None:
    """Empty what functions have kept for the next call, where it may be of the other text.

    edited: the function whose text changes; without it everything is emptied
    """
    for cached in _that_reach(edited):
        cached.cache_clear()


@cache  # asked twice for every edit
def _that_reach(edited: types.FunctionType | None) -> list[Any]:
    return [c for c in _caches() if edited is None or reaches(c.__wrapped__, edited)]


# ── which functions a function calls ─────────────────────────────────────────────────────────────

_REACHED: dict[Any, set[Any]] = {}


def reaches(function: Any, other: types.FunctionType) -> bool:
    """Whether a function is, or calls by a name, another one of ours."""
    if function not in _REACHED:
        found: set[Any] = set()
        waiting = [function]
        while waiting:
            f = waiting.pop()
            if f not in found:
                found.add(f)
                waiting += _called(f)
        _REACHED[function] = found
    return other in _REACHED[function]


def _called(f: Any) -> Iterator[Any]:
    """The functions of ours whose names stand in the code of f."""
    modules = [m for m in f.__globals__.values() if isinstance(m, types.ModuleType)]
    modules = [m for m in modules if m.__name__.startswith("minswin")]
    for name in _names(f.__code__):
        for value in (f.__globals__.get(name), *(getattr(m, name, None) for m in modules)):
            value = getattr(value, "__wrapped__", value)
            if isinstance(value, types.FunctionType) and value.__module__.startswith("minswin."):
                yield value


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)

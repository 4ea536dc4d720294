"""Plant a known defect into minswin itself: one change in the text of one function, and back.

A fault is the text that is changed and what it becomes. The function is compiled again from its own
source with that change, and stands in for the right one wherever that is referred to. So every
fault is a port of Swin that is wrong in one place, with gradients and training to match.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from minswin import kernels
from minswin.lifting import OPERATIONS


class Fault(NamedTuple):
    """One defect that was really met, and what the kit must say about it."""

    name: str
    function: str  # "reference.windows.patch_merge" or "layers.windows.WindowAttention.__call__"
    text: str  # stands in it exactly once
    becomes: str
    source: str  # where it was met: public threads, or the kind of bug
    first: str = ""  # the kind of the first wrong step, "cotangent …" where only derivatives are
    # wrong, "error" where it cannot run, "" where a trace of Swin cannot show it
    names: tuple[str, ...] = ()  # the mistakes that describe it; any of them is a right diagnosis
    case: str = "square"  # which of score.CASES shows it
    test: str = ""  # "test_file.py::test_name" of tests/, where no probe kills it
    fused: tuple[str, str] = ("", "")  # the same change in FUSED, which runs where nobody traces


FUSED = "reference.attention.attention"
FAULTS: list[Fault] = []
HOMES = {"minswin"}  # where functions are looked for; a test enters the module that it is in


def fault(
    name: str, function: str, text: str, becomes: str, *, source: str, first: str = "",
    names: str | tuple[str, ...] = (), case: str = "square", test: str = "",
    fused: tuple[str, str] = ("", ""),
) -> None:  # fmt: skip
    """Enter a fault in the list; see Fault."""
    accepted = (names,) if isinstance(names, str) else names
    FAULTS.append(Fault(name, function, text, becomes, source, first, accepted, case, test, fused))


@contextmanager
def planted_everywhere(fault: Fault) -> Iterator[None]:
    """planted, and in attention in one step too: a trace spells that out, other passes do not."""
    text, becomes = fault.fused
    twin = fault._replace(function=FUSED, text=text, becomes=becomes)
    with planted(fault), planted(twin) if text else nullcontext():
        yield


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Inside this block minswin has the fault. Not for several threads at once."""
    owner, attribute, right = _find(fault.function)
    operations = dict(OPERATIONS)
    definitions = {name: operation.definition for name, operation in operations.items()}
    places: list[tuple[Any, str]] = []
    try:
        wrong = _changed(right, owner, fault)
        places = [(owner, attribute), *_references(right)]
        for place, name in places:
            setattr(place, name, wrong)
        for operation in operations.values():
            if operation.definition is right:
                operation.definition = wrong
        forget()
        with kernels.using("reference"):
            yield
    finally:
        for place, name in places:
            setattr(place, name, right)
        OPERATIONS.update(operations)
        for name, definition in definitions.items():
            operations[name].definition = definition
        forget()


def forget() -> None:
    """Empty what functions have kept for the next call: it may be of the other version.

    What the cross-check itself keeps is the truth, and was made before.
    """
    for module in _modules():
        if module.__name__.startswith("minswin.crosscheck."):
            continue
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def _find(path: str) -> tuple[Any, str, Callable[..., Any]]:
    """(module or class, attribute, function) of a dotted path below minswin."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module("minswin." + ".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1], getattr(owner, parts[-1])
    raise LookupError(f"planted: there is no minswin.{path}")


def _changed(right: Callable[..., Any], owner: Any, fault: Fault) -> Any:
    """The function compiled from its text with the change; lines and file stay as they are."""
    plain = inspect.unwrap(right)
    lines, number = inspect.getsourcelines(plain)
    text = textwrap.dedent("".join(lines))
    if text.count(fault.text) != 1:
        raise LookupError(
            f"planted: {fault.text!r} stands {text.count(fault.text)} times in "
            f"minswin.{fault.function}, expected once; the fault {fault.name!r} is out of date"
        )
    text = "\n" * (number - 1) + text.replace(fault.text, fault.becomes)
    file = inspect.getsourcefile(plain) or ""
    names = dict(plain.__globals__)
    exec(compile("from __future__ import annotations\n" + text[1:], file, "exec"), names)
    wrong = names[plain.__name__]
    _share_globals(wrong, plain)
    return wrong


def _share_globals(wrong: Any, plain: Callable[..., Any]) -> None:
    """What the changed function uses is looked up in its copy: let later changes reach it."""
    inner = inspect.unwrap(wrong)
    for name in inner.__code__.co_names:
        if name in plain.__globals__:
            inner.__globals__[name] = plain.__globals__[name]


def _references(right: Any) -> Iterator[tuple[Any, str]]:
    """Every module or class of minswin that holds the function, and under which name."""
    modules = _modules()
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    for owner in (*modules, *classes):
        for name, value in list(vars(owner).items()):
            if value is right:
                yield owner, name


def _modules() -> list[Any]:
    ours = [m for name, m in sys.modules.items() if name.split(".")[0] in HOMES]
    return [m for m in ours if m.__name__ != __name__]

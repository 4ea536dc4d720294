"""Edits that were really met in ports: text, words, remedy and public threads, one place each.

They are tried before all other edits, planted into minswin to put the kit to the test
(tests/score.py), and their words are what a diagnosis tells.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from minswin import kernels
from minswin.crosscheck.edits.texts import Edit, Text


class Classic(NamedTuple):
    """One defect that was really met, and what the kit must find."""

    name: str
    function: str  # "reference.windows.patch_merge" or "layers.windows.WindowAttention.__call__"
    text: str  # stands in it exactly once
    becomes: str
    met: str = "porting"  # public threads; a bug that every second port goes through has none
    first: str = ""  # the kind of the first wrong step, "cotangent …" where only derivatives are
    # wrong, "error" where it cannot run, "" where a trace of Swin cannot show it
    words: str = ""  # a diagnosis in words; "" where the name is one
    remedy: str = ""
    case: str = "square"  # which of CASES in tests/score.py shows it
    test: str = ""  # "test_file.py::test_name" of tests/, where no probe kills it
    fused: tuple[str, str] = ("", "")  # the same change in FUSED, which runs where nobody traces

    @property
    def threads(self) -> tuple[str, ...]:
        return tuple(word for word in self.met.split() if "#" in word)


FUSED = "reference.attention.attention"
CLASSICS: list[Classic] = []
PARTS = ("forward", "others")


def classic(name: str, function: str, text: str, becomes: str, **more: Any) -> None:
    """Enter a defect in the list; see Classic."""
    CLASSICS.append(Classic(name, function, text, becomes, **more))


@cache
def classics() -> list[Classic]:
    """The whole list."""
    for part in PARTS:
        importlib.import_module(f"minswin.crosscheck.edits.classics_{part}")
    return CLASSICS


def edit_of(one: Classic, text: Text | None = None) -> Edit:
    """The defect as an edit of the function's text."""
    text = text or Text(_function(one.function))
    if text.source.count(one.text) != 1:
        raise LookupError(
            f"planted: {one.text!r} stands {text.source.count(one.text)} times in "
            f"minswin.{one.function}, expected once; the defect {one.name!r} is out of date"
        )
    at = text.source.index(one.text)
    edit = Edit(text, [(at, at + len(one.text), one.becomes)], one.words or one.name, 1)
    edit.remedy, edit.threads = one.remedy, one.threads
    return edit


def classic_edits(texts: dict[str, Text], of: str = "") -> Iterator[Edit]:
    """Those of the functions in `texts`, by their names: of values, "cotangent" or "after".

    Of training ("after") are those of values too: of the loss, and of the rate.
    """
    kinds = ("after", "") if of == "after" else (of,)
    for one in classics():
        kind = next((k for k in ("cotangent", "after") if one.first.startswith(k)), "")
        if kind in kinds and one.function in texts:
            yield edit_of(one, texts[one.function])


@contextmanager
def planted(one: Classic) -> Iterator[None]:
    """Inside this block minswin has the defect. Not for several threads at once."""
    with edit_of(one).planted(), kernels.using("reference"):
        yield


@contextmanager
def planted_everywhere(one: Classic) -> Iterator[None]:
    """planted, and in attention in one step too: a trace spells that out, other passes do not."""
    if not one.fused[0]:
        with planted(one):
            yield
        return
    text, becomes = one.fused
    with planted(one), planted(one._replace(function=FUSED, text=text, becomes=becomes)):
        yield


def _function(path: str) -> Any:
    """The plain function of a dotted path below minswin."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module("minswin." + ".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return inspect.unwrap(getattr(found, "function", found))
    raise LookupError(f"planted: there is no minswin.{path}")

"""Where the first wrong tensor has another shape or order than ours, the cause shows further on.

A port may keep a map as it likes, in windows, rolled before its linear map or behind it, as long as
it puts it back. So the tensors in front of the next wrong one that are wrong too are left aside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from minswin.crosscheck.findings import Comparison, Diagnosis, Finding
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES
from minswin.crosscheck.layouts import NOTE, windows_of
from minswin.crosscheck.observations import REORDERED
from minswin.crosscheck.recording import Step

MOST = 3  # wrong tensors that are tried
KNOWN, ONE, ALL = range(3)  # what is tried: known mistakes; one edit; two as well
Diagnosed = Callable[[Comparison, int], Diagnosis]  # of a first tensor, by so much


def further_on(
    comparison: Comparison, diagnosed: Diagnosed, steps: Mapping[str, Step]
) -> Diagnosis:
    """The diagnosis, or that of the next wrong tensors if the first is kept in another way.

    Where its shape says so, known mistakes are tried on all of them before any other edit. What we
    have put together from windows in front of it, they may have put together otherwise.
    """
    first = comparison.first
    assert first is not None
    later = Diagnosis(first, [], [], 0)
    if first.verdict == "shape":
        for one in (comparison, *_behind(comparison)):
            if (found := diagnosed(one, KNOWN)).named:
                return _of_the_first(first, found)
        in_windows = first.name in windows_of(steps)  # of a padded map
        if in_windows or math.prod(first.shape) == first.step.value.size:
            later = _later(comparison, diagnosed)
        # else of too many tokens, or too few, nothing behind is what it should be
    if later.named:
        return later
    found = diagnosed(comparison, ALL)
    found.tried += later.tried
    if found.causes:
        partly = found.causes[0].explains < found.causes[0].of
        if partly and (NOTE in first.note or REORDERED in found.observations):  # one of all?
            behind = (diagnosed(one, KNOWN) for one in _behind(comparison))
            return next((_of_the_first(first, b) for b in behind if b.named), found)
        return found
    if REORDERED in found.observations:
        later = _later(comparison, diagnosed)
        found.tried += later.tried
    if not later.causes and (aside := _as_windows(comparison, steps)):
        later = diagnosed(aside, ONE)
        found.tried += later.tried
    found.causes, found.shows = later.causes, later.shows
    found.unfinished &= not later.named
    return found


def _of_the_first(first: Finding, later: Diagnosis) -> Diagnosis:
    """What was found of a later tensor, which is said with it."""
    return replace(later, finding=first, shows=later.finding.name)


def _later(comparison: Comparison, diagnosed: Diagnosed) -> Diagnosis:
    """What one edit explains of the next wrong tensors: of the first where it is sure, if any."""
    assert comparison.first is not None
    found = Diagnosis(comparison.first, [], [], 0)
    for one in _behind(comparison):
        later = diagnosed(one, ONE)
        tried = found.tried + later.tried
        found = replace(later if later.causes and not found.causes else found, tried=tried)
        if later.named:
            return _of_the_first(comparison.first, replace(later, tried=tried))
    return _of_the_first(comparison.first, found)


def _behind(comparison: Comparison) -> Iterator[Comparison]:
    """The same with each of the next wrong tensors as the first."""
    assert comparison.first is not None
    bad = [f for f in comparison.findings if f.verdict in ("wrong", "shape", "not finite")]
    wrong = [f for f in bad[bad.index(comparison.first) + 1 :] if f.verdict == "wrong"]
    wrong = [f for f in wrong if f.name != LOSSES and not f.name.startswith((AFTER, COTANGENT))]
    for finding in wrong[:MOST]:
        aside = {f.name for f in bad[: bad.index(finding)]}
        given = {n: theirs for n, theirs in comparison.given.items() if n not in aside}
        yield replace(comparison, first=finding, given=given)


def _as_windows(comparison: Comparison, steps: Mapping[str, Step]) -> Comparison | None:
    """The same without the windows that the first wrong tensor was made of, if it was."""
    assert comparison.first is not None
    given, aside, waiting = comparison.given, set(), [comparison.first.name]
    while waiting:
        step = steps.get(waiting.pop())
        for name in step.inputs if step else ():
            if name not in given:
                waiting.append(name)
            elif NOTE in given[name].note:
                aside.add(name)
    rest = {n: theirs for n, theirs in given.items() if n not in aside}
    return replace(comparison, given=rest) if aside else None

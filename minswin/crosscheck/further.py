"""Where the first wrong tensor has another shape or order than ours, the cause shows further on.

A port may keep a map as it likes, in windows, rolled before its linear map or behind it, as long as
it puts it back. So the tensors in front of the next wrong one that are wrong too are left aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from minswin.crosscheck.findings import Comparison, Diagnosis
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES
from minswin.crosscheck.observations import REORDERED

MOST = 3  # wrong tensors that are tried
KNOWN, ONE, ALL = range(3)  # what is tried: known mistakes; one edit; two as well
Diagnosed = Callable[[Comparison, int], Diagnosis]  # of a first tensor, by so much


def further_on(comparison: Comparison, diagnosed: Diagnosed) -> Diagnosis:
    """The diagnosis, or that of the next wrong tensors if the first is kept in another way.

    Where its shape says so, known mistakes are tried on all of them before any other edit.
    """
    first = comparison.first
    assert first is not None
    if first.verdict == "shape":
        for one in (comparison, *_behind(comparison)):
            if (found := diagnosed(one, KNOWN)).named:
                return replace(found, finding=first)
    found = diagnosed(comparison, ALL)
    if found.causes and found.causes[0].explains < found.causes[0].of:  # one that explains all?
        behind = (diagnosed(one, KNOWN) for one in _behind(comparison))
        return next((replace(b, finding=first) for b in behind if b.named), found)
    if found.causes or not (first.verdict == "shape" or REORDERED in found.observations):
        return found
    for one in _behind(comparison):
        later = diagnosed(one, ONE)
        found.tried += later.tried
        if later.named:
            found.causes, found.unfinished = later.causes, False
            break
    return found


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

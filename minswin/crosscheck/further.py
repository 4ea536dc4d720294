"""Where the first wrong tensor has another shape or order than ours, the cause shows further on.

A port may keep a map as it likes, in windows, rolled before its linear map or behind it, as long as
it puts it back. So the tensors in front of the next wrong one that are wrong too are left aside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from minswin.crosscheck.findings import Comparison, Diagnosis
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES
from minswin.crosscheck.observations import REORDERED

MOST = 3  # wrong tensors that are tried


def further_on(
    comparison: Comparison, found: Diagnosis, diagnosed: Callable[[Comparison], Diagnosis]
) -> Diagnosis:
    """The diagnosis, or that of the next wrong tensors if the first is kept in another way."""
    kept = REORDERED in found.observations or found.finding.verdict == "shape"
    if found.causes or not kept:
        return found
    bad = [f for f in comparison.findings if f.verdict in ("wrong", "shape", "not finite")]
    wrong = [f for f in bad[bad.index(found.finding) + 1 :] if f.verdict == "wrong"]
    wrong = [f for f in wrong if f.name != LOSSES and not f.name.startswith((AFTER, COTANGENT))]
    for finding in wrong[:MOST]:
        aside = {f.name for f in bad[: bad.index(finding)]}
        given = {n: theirs for n, theirs in comparison.given.items() if n not in aside}
        later = diagnosed(replace(comparison, first=finding, given=given))
        found.tried += later.tried
        if later.named:
            found.causes, found.unfinished = later.causes, False
            break
    return found

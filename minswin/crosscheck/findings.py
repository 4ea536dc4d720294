"""The rows of a comparison, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minswin.crosscheck.align import Theirs
from minswin.crosscheck.doubts import Doubts
from minswin.crosscheck.held import Follows
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import Step

Array = np.ndarray
GOOD = ("equal", "right", "follows")


@dataclass
class Finding:
    """A row of the comparison.

    verdict: "equal" to the last bit of their dtype   "right" within the tolerance
    "follows": not equal to ours, but right for the inputs that it had   "wrong"
    "shape", "not finite": wrong in another way   "missing": not among theirs
    """

    name: str  # of the array: the step's, with "cotangent/" before it or not
    step: Step
    verdict: str
    theirs: str = ""
    note: str = ""
    shape: tuple[int, ...] = ()
    absolute: float = 0.0  # the largest error
    relative: float = 0.0  # the same, of the largest element
    cosine: float = 1.0
    ulps: float = 0.0  # the same, in units of the last place of the largest element
    worst: tuple[int, ...] = ()  # where the verdict was decided
    off: float = 0.0  # the largest error, in tolerances; infinite where the tolerance is 0
    limit: float = 0.0  # the largest of its elements' tolerances
    given: str = "truth"  # held against this, "its own inputs", "earlier tensors", or "rounding"


@dataclass
class Comparison:
    findings: list[Finding]
    first: Finding | None  # the first that is wrong
    aligned: Mapping[str, Theirs]  # as they were judged
    given: Mapping[str, Theirs]  # the same as they came: with the port's own masked pairs
    precision: Mapping[str, Precision]
    unused: list[str] = field(default_factory=list)  # tensors of theirs that nothing was found for
    unknown: list[str] = field(default_factory=list)  # of these, such as may be wrong ones of ours
    follows: Mapping[str, Follows] = field(default_factory=dict)  # what each must be
    absent: list[str] = field(default_factory=list)  # lines of the map without a tensor
    doubts: Doubts | None = None  # of a port in half precision whose limits were all kept

    @property
    def drifted(self) -> list[Finding]:
        """Nothing is wrong, and yet these are farther off than rounding makes them."""
        return [f for f in self.findings if f.verdict == "follows" and self.first is None]

    @property
    def passed(self) -> bool:
        """Nothing is wrong, and what was compared is enough to say so."""
        finished = self.doubts is None or self.doubts.finished
        return self.first is None and finished and not (self.unknown or self.drifted)

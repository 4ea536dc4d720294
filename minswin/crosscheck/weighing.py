"""Which of the edits that are one at a place gives most of the other tensors, and the logits."""

from __future__ import annotations

from typing import Any

from minswin.crosscheck.ground import Ground
from minswin.crosscheck.number import free
from minswin.crosscheck.search import Answer, Clock, Search
from minswin.crosscheck.site import Site, sites_of

ALIKE = 8  # edits of equal numbers that are tried elsewhere
CALLS = 3  # around a tensor, in which an edit is tried


class Witness:
    """Another tensor of theirs, be it wrong or right: the right edit gives it too."""

    def __init__(self, ground: Ground, name: str, u: float, clock: Clock) -> None:
        self.name, self.u, self.clock = name, u, clock
        self.sites = sites_of(ground, name)[:CALLS]
        self.searches: list[Search] = []

    def gives(self, edit: Any, number: float | None) -> bool:
        """Whether an edit gives it, in the innermost call or in one around it."""
        for i, site in enumerate(self.sites):
            if i == len(self.searches):
                self.searches.append(Search(site, self.u, self.clock))
            if _gives(self.searches[i], edit, number):
                return True
        return False


def from_the_image(ground: Ground, clock: Clock, u: float) -> Search | None:
    """The logits from the image alone, where they are given: what tells equal edits apart."""
    logits = ground.truth.logits
    root = next((c for c in ground.calls if not c.path), None)
    if logits not in ground.have or root is None:
        return None
    site = Site(ground, root, logits, set(ground.order))
    site.known, site.stubs = {}, {}
    return Search(site, u, clock)


def weigh(answer: Answer, witnesses: list[Witness], whole: Search | None) -> None:
    """Put the edit first that gives most of the other tensors, wrong ones and right ones.

    Edits that are one at one place need not be so everywhere: a norm left out here, or in all.
    """
    most, first = (-1, False), answer.edit
    for edit in answer.edits[:ALIKE]:
        given = [w.name for w in witnesses if w.gives(edit, answer.number)]
        several = len(answer.edits) > 1 and whole is not None
        logits = several and whole is not None and _gives(whole, edit, answer.number)
        if (len(given), logits) > most:
            most, first, answer.sites = (len(given), logits), edit, given
    answer.edits = [first, *(e for e in answer.edits if e is not first)]


def _gives(search: Search, edit: Any, number: float | None) -> bool:
    with free(1.0 if number is None else number):
        value = search.value(edit)
        return value is not None and search.equals(edit, value)

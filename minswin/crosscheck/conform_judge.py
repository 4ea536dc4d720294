"""Judge the answers to a probe: which output is wrong, by how much, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck.bounds import MASK
from minswin.crosscheck.probes import Probe

PASSED, DIFFERS, NOT_COVERED = "passed", "differs", "not covered"
REFUSED = "refused"  # it said no to this input, and answered another one rightly
LEAVING = KeyboardInterrupt, GeneratorExit  # all else is a finding, a panic of Rust among it


class Verdict(NamedTuple):
    """What became of one probe or law."""

    name: str
    status: str
    message: str = ""
    aim: str = ""
    threads: tuple[str, ...] = ()
    error: float = 0.0  # the largest, of the worst output
    allowed: float = 0.0
    seconds: float = 0.0

    @property
    def function(self) -> str:
        return self.name.split("/")[0]


class Finding(NamedTuple):
    """One wrong output; `weight` tells which is the worst."""

    weight: float
    text: str
    error: float
    allowed: float


def judge(
    probe: Probe,
    answers: Mapping[str, Any],
    dtype: np.dtype[Any] | None,
    remedy: str = "the adapter's dtype says what it computes in",
) -> Verdict:
    """Compare answers by name with the truth. dtype: of the computation; None: that of the answer.

    Every output must be there: a gradient that is left out is a finding. remedy: what to say of an
    answer that is narrower than dtype
    """
    found = [
        _check(probe, name, answers[name], truth, dtype, remedy)
        if name in answers
        else Finding(np.inf, f"{name} is missing", np.inf, 0.0)
        for name, truth in probe.expected.items()
    ]
    wrong = [f for f in found if f.text]
    worst = max(wrong or found, key=lambda f: f.weight)
    others = f"; and {len(wrong) - 1} more of {len(found)} outputs" if len(wrong) > 1 else ""
    told = worst.text + others, probe.aim, probe.threads, worst.error, worst.allowed
    return Verdict(probe.name, DIFFERS if wrong else PASSED, *told)


def allowed(probe: Probe, truth: np.ndarray, dtype: np.dtype[Any]) -> float:
    """The largest error that rounding explains: ε · terms · condition · the largest number."""
    if probe.length == 0:
        return 0.0
    scale = float(abs(truth).max()) if truth.size else 0.0
    return float(np.finfo(dtype).eps) * probe.length * probe.condition * max(scale, 2.0**-20)


def _check(
    probe: Probe, name: str, given: Any, truth: np.ndarray, dtype: np.dtype[Any] | None, remedy: str
) -> Finding:
    try:
        answer = as_array(given)
    except (TypeError, ValueError) as error:
        return Finding(np.inf, f"{name}: {error}", np.inf, 0.0)
    moved = probe.length == 0
    if probe.function == "attention_mask":  # anything from −100 down masks
        answer = np.where(answer <= MASK, MASK, answer).astype(np.float64)
    kind = dtype or (answer.dtype if answer.dtype.kind == "f" else np.dtype("float64"))
    limit = allowed(probe, truth, kind)
    problem = _misfit(answer, truth, moved, dtype, remedy)
    if problem:
        text = SWAPPED if _right_if_swapped(answer, truth, limit) else problem
        return Finding(np.inf, f"{name}: {text}", np.inf, limit)
    off = abs(answer.astype(np.float64) - truth)
    largest = float(off.max(initial=0.0))
    weight = largest / limit if limit else 1e300 * (largest > 0)
    text = _where(name, answer, truth, off, limit) if largest > limit else ""
    return Finding(weight, text, largest, limit)


def as_array(given: Any) -> np.ndarray:
    """What an adapter gave, as an array of numbers; raises where it is none."""
    if given is None:
        raise TypeError("the adapter gave None")
    try:
        array = np.asarray(given)
    except LEAVING:
        raise
    except BaseException as error:  # ragged lists, tensors that need a gradient or are on a device
        raise TypeError(f"no array but {type(given).__name__}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"no numbers but {type(given).__name__} of {array.dtype}")
    return array


def _misfit(
    answer: np.ndarray, truth: np.ndarray, moved: bool, dtype: np.dtype[Any] | None, remedy: str
) -> str:
    """What makes a comparison impossible; "" if nothing does."""
    if answer.shape != truth.shape:
        return f"the shape is {answer.shape}, expected {truth.shape}"
    if answer.dtype.kind != "f" and not moved:
        return f"{answer.dtype}, expected floating-point numbers"
    least = dtype or np.dtype("float32")
    if answer.dtype.kind == "f" and answer.dtype.itemsize < least.itemsize:
        return f"{answer.dtype}, expected {least}; {remedy}"
    bad = np.isnan(answer) if answer.dtype.kind == "f" else np.zeros(answer.shape, bool)
    if bad.any():
        return f"{int(bad.sum())} of {bad.size} are NaN, the first at {_first(bad)}"
    return ""


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))


def _where(
    name: str, answer: np.ndarray, truth: np.ndarray, error: np.ndarray, limit: float
) -> str:
    place = _first(error)
    text = (
        f"{name}{list(place)} is {answer[place]:.6g}, expected {truth[place]:.6g} "
        f"(off by {error[place]:.2g}, allowed {limit:.2g}; "
        f"{int((error > limit).sum())} of {error.size} are wrong)"
    )
    return text + _hint(answer, truth, limit)


def _hint(answer: np.ndarray, truth: np.ndarray, limit: float) -> str:
    """A cause that shows at once."""
    if not answer.any() and truth.any():
        return "; all zeros"
    if _right_if_swapped(answer, truth, limit):
        return f"; {SWAPPED}"
    with np.errstate(all="ignore"):
        order = abs(np.sort(answer, axis=None) - np.sort(truth, axis=None))
        if order.size > 1 and np.all(order <= limit):
            return "; the same numbers in another order"
        if np.all(abs(answer + truth) <= limit):
            return "; right but for the sign"
    return ""


SWAPPED = "right with the bytes of each number in the other order: write little-endian"


def _right_if_swapped(answer: np.ndarray, truth: np.ndarray, limit: float) -> bool:
    if answer.shape != truth.shape or answer.dtype.kind != "f":
        return False
    swapped = answer.view(answer.dtype.newbyteorder())
    with np.errstate(all="ignore"):
        return bool(np.all(abs(swapped.astype(np.float64) - truth) <= limit))

"""Compute a step again from the nearest tensors of theirs, with or without a mistake in it.

Most ports hand out a few tensors only: the outputs of blocks, say. What lies between is computed
here, so that a tensor can be judged, and a mistake tried, as if all of its inputs were there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minswin.crosscheck.formulas import expected
from minswin.crosscheck.recording import Step

Array = np.ndarray
Formula = Callable[..., Array]
GIVEN = ("input", "parameter", "constant")  # known to both sides


def between(target: Step, steps: Mapping[str, Step], have: Mapping[str, Array]) -> list[Step]:
    """The steps from the tensors of `have` to `target`, in their order, target last.

    Inputs, parameters and constants that they did not hand out are taken from the truth.
    """
    found: dict[str, Step] = {}
    waiting = [target]
    while waiting:
        step = waiting.pop()
        if step.name in found:
            continue
        found[step.name] = step
        waiting += [
            steps[name]
            for name in step.inputs
            if name not in have and (steps[name].op not in GIVEN or steps[name].op == "constant")
        ]
    return [step for name, step in steps.items() if name in found]


def replay(
    chain: list[Step],
    steps: Mapping[str, Step],
    have: Mapping[str, Array],
    *,
    instead: Mapping[str, Formula] | None = None,
    also: tuple[str, ...] = (),
    dtype: Any = np.float64,
) -> Array | None:
    """The value of the last step of `chain`; None where a step on the way has no formula.

    instead: formulas in the place of the right ones, by the name of the step   also: the last
    parts of the names of steps beside those, whose values these formulas get after the inputs
    """
    values: dict[str, Array] = {}
    for step in chain:
        wrong = (instead or {}).get(step.name)
        beside = [f"{step.name.rpartition('.')[0]}.{part}" for part in also] if wrong else []
        inputs = [
            values[n] if n in values else np.asarray(have.get(n, steps[n].value))
            for n in (*step.inputs, *beside)
        ]
        inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
        value = wrong(step, *inputs) if wrong is not None else expected(step, inputs)
        if value is None or value.shape != step.value.shape:
            return None
        values[step.name] = value
    return values[chain[-1].name]

"""Our own pass on their tensors: what each step must be, given what they had before it.

Every step is computed by its definition from what came in; then their tensor, where there is one,
is put in its place, and the pass goes on with it. So a step is judged by its own inputs, whatever
went wrong before, and where inputs are missing by the nearest tensors of theirs in front of it.
Cotangents in the same way, from the loss backwards. It is done in float64, and once in float32:
what that is off shows how far a right implementation may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from minswin import kernels
from minswin.autograd import Tensor
from minswin.crosscheck import bounds
from minswin.crosscheck.folder import COTANGENT, Trace
from minswin.crosscheck.masked import KINDS, legible, lifted, masked_pairs
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import GIVEN, Recording, Step, recording
from minswin.crosscheck.trace import loss
from minswin.layers.base import Layer
from minswin.watch import Operation

Array = np.ndarray
Have = Mapping[str, Array]  # their tensors by our names, in our shapes


class Follows(NamedTuple):
    """What a tensor of theirs must be, given what they had before it."""

    value: Array  # in float64
    allowed: Array  # of the operation alone, in the precision of the tensor
    noise: float  # what the way to it is off in float32; 0 where its inputs are theirs
    direct: bool  # its own inputs are theirs, or were given


def model_of(truth: Trace, dtype: str, have: Have | None = None) -> Layer:
    """The model of a trace with its weights, or those of theirs where they gave them."""
    if truth.build is None:
        raise ValueError("compare: the trace does not tell how its model is built")
    model = truth.build(np.dtype(dtype)).eval()
    state = {n: s.value for n, s in truth.steps.items() if s.op == "parameter"}
    model.load_state_dict({n: (have or {}).get(n, x) for n, x in state.items()})
    return model


class Held:
    """A pass with their tensors in the places of ours; `expected` is what came in."""

    def __init__(
        self, truth: Trace, have: Have, precision: Mapping[str, Precision], dtype: str
    ) -> None:
        self.truth, self.have, self.precision, self.dtype = truth, dict(have), precision, dtype
        self.expected: dict[str, Array] = {}
        self.allowed: dict[str, Array] = {}
        self.rough: set[str] = set()
        self.record: Recording

    def run(self, *, grad: bool) -> Held:
        model = model_of(self.truth, self.dtype, self.have)
        image, labels = (self._given(name) for name in ("image", "labels"))
        with (
            kernels.using(self.truth.header.get("backend", "reference")),
            recording(model, hold=self.hold, hold_gradient=self.hold_gradient) as self.record,
        ):
            x = Tensor(image.astype(self.dtype), requires_grad=grad)
            self.record.given("image", x)
            self.record.given("labels", labels)
            result = loss(model, x, labels.astype(np.int64))
            if grad:
                result.backward()
                self.record.gather_gradients()
        if grad:
            names = [n for n, s in self.record.steps.items() if s.op in ("input", "parameter")]
            for name in names:
                if (g := self.record.steps[name].cotangent) is not None:
                    self.expected[COTANGENT + name] = g
        return self

    def _given(self, name: str) -> Array:
        ours = np.asarray(self.truth.steps[name].value)
        theirs = np.asarray(self.have.get(name, ours))
        return theirs if theirs.dtype.kind == ours.dtype.kind else ours

    def hold(self, step: Step, operation: Operation | None) -> Array | None:
        theirs = self.have.get(step.name)
        self.expected[step.name] = value = step.value
        if theirs is None or theirs.shape != value.shape or theirs.dtype.kind != value.dtype.kind:
            return None
        precision = self.precision[step.name]
        allowed = np.zeros(value.shape)
        if operation is not None:
            inputs = operation.arrays
            if any(id(x) in self.record.rough for x in inputs):
                self.rough.add(step.name)
            allowed = precision.u * bounds.units(operation.name, inputs, operation.settings, value)
            allowed = allowed + (precision.smallest if allowed.any() else 0)
        self.allowed[step.name] = allowed
        if step.kind in KINDS and theirs.dtype.kind == "f":
            pairs = masked_pairs(step, self.record.steps)
            raised = lifted(theirs, value, pairs, allowed)
            self.have[step.name] = theirs = legible(raised, value, pairs)
        return np.ascontiguousarray(theirs, value.dtype)

    def hold_gradient(self, step: Step, g: Array) -> Array:
        name = COTANGENT + step.name
        self.expected[name] = g
        theirs = self.have.get(name)
        return g if theirs is None or theirs.shape != g.shape else theirs.astype(g.dtype)


def follow(
    truth: Trace, have: Have, precision: Mapping[str, Precision], *, grad: bool
) -> tuple[dict[str, Follows], Have]:
    """What each of their tensors must be, by our names; and theirs as they were held."""
    with np.errstate(all="ignore"):  # theirs may hold anything
        exact = Held(truth, have, precision, "float64").run(grad=grad)
        single = Held(truth, exact.have, precision, "float32").run(grad=grad)
    found = {}
    for name in have.keys() & exact.expected.keys():
        value = np.asarray(exact.expected[name], np.float64)
        step = truth.steps.get(name)
        inputs = step.inputs if step is not None else ()
        direct = step is not None and name not in exact.rough
        direct = direct and all(n in have or truth.steps[n].op in GIVEN for n in inputs)
        noise = 0.0
        if not direct and name in single.expected:
            rounded = np.asarray(single.expected[name], np.float64)
            noise = float(np.max(np.abs(rounded - value), initial=0)) if value.size else 0.0
        allowed = exact.allowed.get(name, np.zeros(value.shape))
        found[name] = Follows(value, allowed, noise, direct)
    return found, exact.have

"""Our own pass on their tensors: what each step must be, given what they had before it.

Every step is computed by its definition from what came in; then their tensor, where there is one,
is put in its place, and the pass goes on with it. So a step is judged by its own inputs, whatever
went wrong before, and where inputs are missing by the nearest tensors of theirs in front of it.
Cotangents in the same way, from the loss backwards. It is done in float64, and once in float32:
what that is off shows how far a right implementation may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels
from minswin.crosscheck import bounds
from minswin.crosscheck.bounds import KINDS, legible, lifted, masked_pairs
from minswin.crosscheck.folder import COTANGENT, Trace
from minswin.crosscheck.precision import Precision
from minswin.crosscheck.recording import GIVEN, STARTS, Recording, Step
from minswin.crosscheck.trace import record_pass
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
    theirs = {n: x for n, x in (have or {}).items() if n in state}
    kinds = {n: x.dtype.kind + state[n].dtype.kind for n, x in theirs.items()}
    whole = {n: x.astype(state[n].dtype) for n, x in theirs.items() if {*kinds[n]} & {*"iub"}}
    model.load_state_dict({**state, **theirs, **whole})  # a gain of ones may be of whole numbers
    return model


class Pass:
    """A pass of our model with their tensors in the places of ours.

    images: so many, the first ones; None for all
    """

    def __init__(self, truth: Trace, have: Have, images: int | None = None) -> None:
        self.truth, self.have, self.images = truth, dict(have), images
        self.order: list[str] = []  # of the steps

    def given(self, name: str, dtype: Any) -> Array:
        """The image or the labels: theirs, or else ours, as of labels that are no classes."""
        ours = np.asarray(self.truth.steps[name].value)
        theirs = np.asarray(self.have.get(name, ours))
        fit = theirs.dtype.kind == ours.dtype.kind
        if name == "labels":
            classes = self.truth.steps[self.truth.logits].value.shape[1]
            fit = fit and bool(((theirs >= 0) & (theirs < classes)).all())
        return (theirs if fit else ours)[: self.images].astype(dtype)

    def run_through(
        self, model: Layer, dtype: str, *, grad: bool = False, backend: str = "reference"
    ) -> Recording:
        """The steps of the pass and of the loss; grad: and of backward."""
        given = self.given("image", dtype), self.given("labels", np.int64)
        held = {"hold": self.hold, "hold_gradient": self.hold_gradient}
        with kernels.using(backend):
            return record_pass(model, *given, grad=grad, **held)

    def hold(self, step: Step, operation: Operation | None) -> Array | None:
        """What stands in the place of the value of a step; None where they have nothing for it."""
        self.order.append(step.name)
        theirs, value = self._of_images(step), step.value
        if theirs is None or theirs.shape != value.shape or theirs.dtype.kind != value.dtype.kind:
            return None
        return np.ascontiguousarray(theirs, value.dtype)

    def _of_images(self, step: Step) -> Array | None:
        """Their tensor, of these images alone."""
        theirs, value = self.have.get(step.name), step.value
        if theirs is None or self.images is None or theirs.shape == value.shape:
            return theirs
        batch = len(self.truth.steps["image"].value)
        if value.ndim and theirs.ndim and len(value) * batch == len(theirs) * self.images:
            self.have[step.name] = theirs[: len(value)]
        else:
            del self.have[step.name]
        return self.have.get(step.name)

    def hold_gradient(self, step: Step, g: Array) -> Array:
        theirs = self.have.get(COTANGENT + step.name)
        return g if theirs is None or theirs.shape != g.shape else theirs.astype(g.dtype)


class Held(Pass):
    """A pass of which every tensor of theirs is judged; `expected` is what came in."""

    def __init__(
        self, truth: Trace, have: Have, precision: Mapping[str, Precision], dtype: str
    ) -> None:
        super().__init__(truth, have)
        self.precision, self.dtype = precision, dtype
        self.expected: dict[str, Array] = {}
        self.allowed: dict[str, Array] = {}  # of those that were put in the place of ours
        self.cotangents: dict[str, Array] = {}  # of all steps, as they came in

    def run(self, *, grad: bool) -> Held:
        model = model_of(self.truth, self.dtype, self.have)
        backend = self.truth.header.get("backend", "reference")
        steps = self.run_through(model, self.dtype, grad=grad, backend=backend).steps
        self.cotangents = {n: x.cotangent for n, x in steps.items() if x.cotangent is not None}
        given = (n for n in self.cotangents if steps[n].op in STARTS)
        self.expected |= {COTANGENT + n: self.cotangents[n] for n in given}
        return self

    def hold(self, step: Step, operation: Operation | None) -> Array | None:
        value = step.value
        if step.name in self.have:
            self.expected[step.name] = value
        if (theirs := super().hold(step, operation)) is None:
            return None
        precision = self.precision[step.name]
        allowed = np.zeros(value.shape)
        if operation is not None:
            units = bounds.units(operation.name, operation.arrays, operation.settings, value)
            allowed = precision.u * units + (precision.smallest if units.any() else 0)
        self.allowed[step.name] = allowed
        if step.kind in KINDS and theirs.dtype.kind == "f":
            own, pairs = self.have[step.name], masked_pairs(step, self.truth.steps)
            self.have[step.name] = legible(lifted(own, value, pairs, allowed), value, pairs)
            theirs = np.ascontiguousarray(self.have[step.name], value.dtype)
        return theirs

    def hold_gradient(self, step: Step, g: Array) -> Array:
        if COTANGENT + step.name in self.have:
            self.expected[COTANGENT + step.name] = g
        return super().hold_gradient(step, g)


class Unrounded(Held):
    """A pass that goes on with our value where theirs is that, rounded once: as a file does it.

    A port that computes in half precision goes on with what it rounded; one whose file alone is in
    half precision with what was there before. found: these values   rough: steps that follow from
    another tensor of theirs   off: what a right implementation in float32 may be off, by the names
    of what may be so rounded
    """

    def __init__(
        self,
        truth: Trace,
        have: Have,
        precision: Mapping[str, Precision],
        off: Mapping[str, float],
    ) -> None:
        super().__init__(truth, have, precision, "float64")
        self.off = off
        self.found: dict[str, Array] = {}
        self.rough: set[str] = set()
        for name, step in truth.steps.items():
            if step.op in STARTS and self._is_rounded(name, step.value):
                del self.have[name]

    def hold(self, step: Step, operation: Operation | None) -> Array | None:
        theirs = super().hold(step, operation)
        if theirs is not None and self._is_rounded(step.name, step.value):
            theirs = None
        other = theirs is not None and not np.array_equal(theirs, step.value)
        if other or not self.rough.isdisjoint(step.inputs):
            self.rough.add(step.name)
        return theirs

    def _is_rounded(self, name: str, value: Array) -> bool:
        theirs = self.have.get(name)
        if theirs is None or name not in self.off or theirs.shape != value.shape:
            return False
        y, x = np.asarray(theirs, np.float64), np.asarray(value, np.float64)
        if np.array_equal(x, y) or not self.precision[name].may_be(y, x, self.off[name]):
            return False
        self.found[name] = x
        return True


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
        theirs = (n in exact.allowed or truth.steps[n].op in GIVEN for n in inputs)
        direct = step is not None and all(theirs)
        noise = 0.0
        if not direct and name in single.expected:
            rounded = np.asarray(single.expected[name], np.float64)
            noise = float(np.max(np.abs(rounded - value), initial=0)) if value.size else 0.0
        allowed = exact.allowed.get(name, np.zeros(value.shape))
        found[name] = Follows(value, allowed, noise, direct)
    return found, exact.have

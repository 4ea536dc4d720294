"""Trace a model: the steps of forward and backward in float64 and float32, and training steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from minswin import kernels, ops
from minswin.arguments import checks_switches
from minswin.around import around
from minswin.arrays import Array, as_array
from minswin.autograd import Tensor, no_grad
from minswin.crosscheck import recipe
from minswin.crosscheck.folder import AFTER, FORMAT, Trace, arrays_of
from minswin.crosscheck.loop import OPTIMIZERS, require_steps, run_steps
from minswin.crosscheck.recording import Recording, spell_out
from minswin.layers.base import Layer
from minswin.version import VERSION

__all__ = ["trace"]

IMAGE = ("image", "channel", "row", "column")


@checks_switches
def trace(
    build: Callable[[Any], Layer],
    image: Array,
    labels: Array,
    *,
    weights: Mapping[str, Array] | None = None,
    grad: bool = True,
    steps: int = 0,
    optimizer: str = "sgd",
    lr: float = 0.01,
    clip: float | None = None,
    warmup: int | None = None,
    smoothing: float = 0.0,
    ema: float | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
    backend: str = "reference",
    header: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Trace:
    """Run a model on images (B, 3, H, W) and labels (B,), and keep every step of the way.

    build: makes the model from a dtype; its weights are then those of `weights`, by default those
    of the recipe. grad: cotangents too. steps: so many optimizer steps on the same batch after it,
    of which the losses and the last weights are kept. clip, warmup, smoothing, ema: their gradients
    are cut off at this length, their rate rises for so many steps and falls along a cosine, labels
    are smoothed, a mean of the weights is kept, and its loss (see loop.py). The first
    of dtypes is the exact one.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"trace: optimizer must be one of {', '.join(OPTIMIZERS)}")
    image, labels = as_array(image), as_array(labels)
    _require_batch(image, labels)
    if not dtypes:
        raise ValueError("trace: dtypes is empty; give one or more, such as float64")
    if steps < 0:
        raise ValueError(f"trace: steps must be 0 or more, got {steps}")
    more = {"clip": clip, "warmup": warmup, "smoothing": smoothing or None, "ema": ema}
    more = {name: value for name, value in more.items() if value is not None}
    if more and not steps:
        raise ValueError(
            f"trace: without optimizer steps there is no {' and no '.join(more)}; give steps=3, say"
        )
    told = {"format": FORMAT, "minswin": VERSION, **(header or {})}
    told |= {"dtypes": list(dtypes), "backend": backend, "losses": {}}
    if steps:
        told["optimizer"] = {"name": optimizer, "lr": lr, "steps": steps, **more}
        require_steps({"planned": steps, **told["optimizer"]})
    found: Trace | None = None
    for dtype in dtypes:
        tell(f"{dtype}: forward{' and backward' if grad else ''}")
        model = build(np.dtype(dtype)).eval()
        state = recipe.weights_of(model) if weights is None else weights
        model.load_state_dict(state)
        x = image.astype(dtype)
        with kernels.using(backend):
            made = record_pass(model, x, labels, grad=grad).steps
            arrays = arrays_of(made)
            if steps:
                tell(f"{dtype}: {steps} optimizer steps")
                for p in model.parameters():  # a recording may have left gradients, or weights
                    p.data, p.grad = p.data.copy(), None
                losses = run_steps(model, x, labels, {"planned": steps, **told["optimizer"]})
                told["losses"][dtype] = losses
        arrays |= {AFTER + n: p.data for n, p in model.named_parameters() if steps}
        found = found or Trace(told, made, build=build)
        found.arrays[dtype] = arrays
    assert found is not None
    single = found.arrays.get("float32", {})
    for name, exact in found.exact.items():  # how far a right port may be off
        if name in single and np.asarray(exact).dtype.kind == "f":
            off = np.abs(single[name].astype(np.float64) - exact)
            found.off[name] = float(np.max(off, initial=0))
    return found


def _require_batch(image: Array, labels: Array) -> None:
    if image.ndim != 4 or not len(image):
        raise ValueError(
            f"trace: image must hold one image or more, (B, 3, H, W), got {image.shape}; there is "
            "nothing to trace without one"
        )
    if labels.shape != image.shape[:1]:
        raise ValueError(
            f"trace: labels must be {image.shape[:1]}, a class for each image, got {labels.shape}"
        )


def record_pass(
    model: Layer, image: Array, labels: Array, *, grad: bool = True, **held: Any
) -> Recording:
    """The steps of one forward pass, of the loss, and of backward.

    A kernel is one step, the definitions of "reference" are many: choose with `kernels.using`.
    held: what stands in the place of steps, see recording.Naming
    """
    model.zero_grad()
    record = Recording(model, **held)
    with nullcontext() if grad else no_grad(), around(record), around(spell_out):
        x = Tensor(image, requires_grad=grad)
        record.given("image", x, axes=IMAGE)
        record.given("labels", labels, axes=("image",))
        result = loss(model, x, labels)
        if grad:
            result.backward()
    record.end()
    return record


def loss(model: Any, x: Tensor, labels: Array) -> Tensor:
    return ops.cross_entropy(model(x), labels)

"""Two implementations on the same random weights and images: how far apart they are.

`Pair` runs our model and another implementation's, pulls the same random cotangent of the logits
back through both, and tells the errors. There are no ones and no zeros in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minswin.autograd import Tensor
from minswin.layers import Layer
from minswin.models.base import Model

from .cases import Case
from .names import State
from .peers import PEERS, Peer, tensor

TOLERANCE = 1e-10  # relative; rounding makes 1e-15 to 1e-13, a wrong term 1e-3 or more

# ── random weights ───────────────────────────────────────────────────────────────────────────────


def build(case: Case, rng: np.random.Generator, dtype: Any = np.float64) -> Any:
    """Our model with random weights, ready for evaluation."""
    model = case.family(**case.settings, drop_path_rate=0.0, rng=rng, dtype=dtype)
    randomise(model, rng)
    model.eval()
    return model


def randomise(model: Layer, rng: np.random.Generator) -> None:
    """Fresh values for every parameter: gains away from 1, biases away from 0, logits of size 1.

    Gains of 1 and biases of 0 would hide a missing term.
    """
    for name, p in model.named_parameters():
        noise = rng.standard_normal(p.shape)
        if p.ndim == 1:
            value = 0.3 * noise + (1 if name.endswith("weight") else 0)
        elif any(word in name for word in ("relative_position", "pos_embed", "_pos", "token")):
            value = 0.7 * noise
        elif name.endswith("logit_scale"):
            value = 2 + 0.5 * noise  # τ of 2 to 30: below the clamp, and cosines matter
        else:
            value = noise / np.sqrt(p.size / p.shape[0])  # by the number of inputs
        p.data[...] = value
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            b.data[...] = 0.3 * rng.standard_normal(b.shape)
        elif name.endswith("running_var"):
            b.data[...] = rng.uniform(0.5, 2, b.shape)


# ── comparing ────────────────────────────────────────────────────────────────────────────────────


class Row(NamedTuple):
    """One line of the table."""

    case: str
    against: str
    logits: float  # largest error, relative to the largest element
    gradient: float  # the same, of the worst gradient
    worst: str  # its name
    family: type

    @property
    def largest(self) -> float:
        return max(self.logits, self.gradient)


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the largest element; ∞ for NaN."""
    assert ours.shape == theirs.shape, f"{ours.shape} against {theirs.shape}"
    assert ours.dtype == theirs.dtype, f"{ours.dtype} against {theirs.dtype}"
    difference = float(abs(ours - theirs).max() / abs(theirs).max())
    return difference if np.isfinite(difference) else float("inf")


def our_run(model: Model, images: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, State]:
    """Logits, and the gradients of ⟨g, logits⟩ by all parameters and by the image."""
    model.zero_grad()
    x = Tensor(images, requires_grad=True)
    logits = model(x)
    logits.backward(g)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return logits.numpy(), {**gradients, "image": x.grad}


def their_run(
    peer: Peer, module: Any, images: np.ndarray, g: np.ndarray, names: list[str]
) -> tuple[np.ndarray, State]:
    x = tensor(images, requires_grad=True)
    logits = peer.logits(module, x)
    logits.backward(tensor(g))
    gradients = peer.gradients(module, names)
    return logits.detach().numpy(), {**gradients, "image": x.grad.numpy()}


class Pair:
    """Our model and theirs with the same random weights; theirs has run."""

    def __init__(self, case: Case, against: str) -> None:
        rng = np.random.default_rng(20210325)
        self.case, self.peer, self.model = case, PEERS[against], build(case, rng)
        self.images = case.draw_images(rng)
        self.g = rng.standard_normal((case.batch, case.settings["num_classes"]))
        self.names = [name for name, _ in self.model.named_parameters()]
        module = self.peer.build(case.settings).double()
        self.peer.load(module, self.model.state_dict())
        self.logits, self.theirs = their_run(self.peer, module, self.images, self.g, self.names)

    def row(self) -> Row:
        """The errors of ours as it is now."""
        logits, ours = our_run(self.model, self.images, self.g)
        assert ours.keys() == self.theirs.keys()
        largest = max(abs(gradient).max() for gradient in self.theirs.values())
        idle = {name for name in ours if self.case.idle(name)}
        for name in idle:
            assert max(abs(ours[name]).max(), abs(self.theirs[name]).max()) < 1e-13 * largest
        errors = {name: error(ours[name], self.theirs[name]) for name in ours.keys() - idle}
        worst = max(errors, key=lambda name: errors[name])
        forward = error(logits, self.logits)
        version = self.peer.version()
        return Row(self.case.name, version, forward, errors[worst], worst, self.case.family)


def compare(case: Case, against: str, spoil: Callable[[Any], None] | None = None) -> Row:
    """Errors of our model against `against`; `spoil` may plant a fault in ours beforehand."""
    pair = Pair(case, against)
    if spoil is not None:
        spoil(pair.model)
    return pair.row()


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| configuration | against | logits | worst gradient | of |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.case} | {row.against} | {row.logits:.1e} | {row.gradient:.1e} "
            f"| `{row.worst}` |"
        )
    return "\n".join(lines)

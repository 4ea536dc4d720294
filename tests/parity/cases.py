"""The configurations on which whole models are compared, and how: every gradient, no ones or zeros.

`compare` runs our model and another implementation's on the same random weights and images, pulls
the same random cotangent of the logits back through both, and gives the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minswin.autograd import Tensor
from minswin.layers import Layer
from minswin.models import SwinTransformer
from minswin.models.base import Model

from .names import State
from .peers import PEERS, Peer, tensor

TOLERANCE = 1e-10  # relative; rounding makes 1e-15 to 1e-13, a wrong term 1e-3 or more


@dataclass(frozen=True)
class Case:
    """Settings of a model, and which implementations define the same function for them."""

    name: str
    settings: dict[str, Any]
    peers: tuple[str, ...] = ("transformers", "timm")
    batch: int = 2
    images: tuple[int, int] | None = None  # None: as the model was built for
    family: type[Any] = SwinTransformer

    def __str__(self) -> str:
        return self.name

    def draw_images(self, rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
        size = self.images or self.settings["img_size"]
        size = (size, size) if isinstance(size, int) else size
        return rng.standard_normal((self.batch, 3, *size)).astype(dtype)


CASES = (
    Case(
        "four stages, the last map is one window",
        {
            "img_size": 64, "patch_size": 4, "window_size": 2, "embed_dim": 6, "num_classes": 5,
            "depths": (2, 2, 3, 2), "num_heads": (1, 3, 2, 6),
        },
    ),
    Case(
        "odd heads, image 48×80",
        {
            "img_size": (48, 80), "patch_size": 2, "window_size": 4, "embed_dim": 15,
            "num_classes": 7, "depths": (2, 3), "num_heads": (3, 5),
        },
        batch=3,
    ),
    Case(
        "window 7, no qkv bias, mlp ratio 2",
        {
            "img_size": 28, "patch_size": 2, "window_size": 7, "embed_dim": 20, "num_classes": 6,
            "depths": (2, 2), "num_heads": (5, 4), "qkv_bias": False, "mlp_ratio": 2.0,
        },
    ),
    Case(
        "patch 2×3, maps 10×14, 5×7, 3×4, window 3: padded",
        {
            "img_size": (20, 42), "patch_size": (2, 3), "window_size": 3, "embed_dim": 8,
            "num_classes": 5, "depths": (2, 2, 2), "num_heads": (1, 2, 4),
        },
        peers=("transformers",),  # timm pads after the roll, which is another function
    ),
    Case(
        "absolute positions, maps 12×8, 6×4, window 4",
        {
            "img_size": (24, 16), "patch_size": 2, "window_size": 4, "embed_dim": 9,
            "num_classes": 4, "depths": (2, 2), "num_heads": (3, 2), "ape": True,
        },
        peers=("transformers",),  # timm has no absolute positions, and shifts an axis by itself
    ),
    Case(
        "made for 32×32, run on 48×40",
        {
            "img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 10, "num_classes": 5,
            "depths": (2, 2, 2), "num_heads": (1, 2, 5),
        },
        peers=("transformers",),  # timm refuses another size than its own
        images=(48, 40),
    ),
    Case(
        "window 2×4, image 32×64",
        {
            "img_size": (32, 64), "patch_size": 2, "window_size": (2, 4), "embed_dim": 12,
            "num_classes": 5, "depths": (2, 2), "num_heads": (3, 2),
        },
        peers=("timm",),  # transformers has square windows only
    ),
)  # fmt: skip

PAIRS = [(case, peer) for case in CASES for peer in case.peers]


def case_named(start: str) -> Case:
    (case,) = (case for case in CASES if case.name.startswith(start))
    return case


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
    family: type = SwinTransformer

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


def compare(case: Case, against: str, spoil: Callable[[Any], None] | None = None) -> Row:
    """Errors of our model against `against`; `spoil` may plant a fault in ours beforehand."""
    rng = np.random.default_rng(20210325)
    peer, model = PEERS[against], build(case, rng)
    images = case.draw_images(rng)
    g = rng.standard_normal((case.batch, case.settings["num_classes"]))
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    if spoil is not None:
        spoil(model)
    logits, gradients = our_run(model, images, g)
    names = [name for name, _ in model.named_parameters()]
    their_logits, their_gradients = their_run(peer, module, images, g, names)
    assert gradients.keys() == their_gradients.keys()
    errors = {name: error(gradients[name], their_gradients[name]) for name in gradients}
    worst = max(errors, key=lambda name: errors[name])
    forward = error(logits, their_logits)
    return Row(case.name, peer.version(), forward, errors[worst], worst, case.family)


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

"""DeiT: a ViT with a second token that learns from a teacher.                Touvron et al. 2021

The model, and the two losses that train it: from the teacher's choice, or from its probabilities.
"""

from __future__ import annotations

from typing import Any

from minswin import ops
from minswin.arguments import fraction, positive
from minswin.arrays import Array, array_module
from minswin.autograd import Tensor
from minswin.layers import Layer, Linear, Parameter
from minswin.layers.parameters import Init
from minswin.models.vit import VisionTransformer


class DistilledVisionTransformer(VisionTransformer):
    """A ViT with a distillation token beside the class token, and a head on each.      §4, Figure 2

    Images (B, 3, H, W) in, logits (B, num_classes) out: the mean of what the two heads say.
    To train with a teacher, call `both` and give its pair to one of the losses below.
    """

    name, family = "deit_distilled", "deit"
    head_names = ("head", "head_dist")
    extra_tokens = 1

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        who, weight = type(self).__name__, self.head.weight
        if self.global_pool != "token" or self.pre_logits is not None:
            raise ValueError(
                f"{who}: both heads read their own token, so global_pool must be 'token' and "
                "representation_size None; leave them out"
            )
        classes, C = weight.shape
        init = Init(self.rng, weight.dtype)
        self.dist_token = init.normal(1, 1, C, decays=False)
        self.head_dist = Linear(C, classes, init=init)

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to the mean of both heads' logits, (B, num_classes)."""
        of_class, of_teacher = self.both(x)
        return (of_class + of_teacher) * 0.5

    def both(self, x: Tensor | Array) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) to the logits of `head` and of `head_dist`, (B, num_classes) each."""
        x = self.tokens(x)  # (B, 2 + HW/p², C)
        return self.head(x[:, 0]), self.head_dist(x[:, 1])

    def front_tokens(self) -> list[Parameter]:
        return [*super().front_tokens(), self.dist_token]

    def _heads(self) -> list[Layer]:
        return [self.head, self.head_dist]


# ── losses ───────────────────────────────────────────────────────────────────────────────────────

Logits = Tensor | Array


def hard_distillation_loss(
    both: tuple[Tensor, Tensor],
    targets: Logits,
    teacher: Logits,
    *,
    alpha: float = 0.5,
    smoothing: float = 0.0,
) -> Tensor:
    """The class head learns the label, the distillation head the teacher's choice.        Eq. (3)

        (1 − α) · CE(class head, targets) + α · CE(distillation head, argmax teacher)

    both: two (B, K), as `DistilledVisionTransformer.both` gives them   teacher: logits (B, K)
    targets: see ops.cross_entropy   smoothing: of the targets; the teacher's choice stays as it is
    """
    _check(both, teacher, alpha)
    choice = _values(teacher).argmax(axis=-1)  # (B,)
    of_label = ops.cross_entropy(both[0], targets, smoothing=smoothing)
    return of_label * (1 - alpha) + ops.cross_entropy(both[1], choice) * alpha


def soft_distillation_loss(
    both: tuple[Tensor, Tensor],
    targets: Logits,
    teacher: Logits,
    *,
    alpha: float = 0.5,
    temperature: float = 3.0,
    smoothing: float = 0.0,
) -> Tensor:
    """The class head learns the label, the distillation head the teacher's probabilities.  Eq. (2)

        (1 − α) · CE(class head, targets) + α · τ² / (B·K) · Σ p (log p − log q)
        p = softmax(teacher / τ)        q = softmax(distillation head / τ)

    The sum is divided by B·K as in the original's code, not by B as in the paper.
    """
    _check(both, teacher, alpha)
    positive("soft_distillation_loss", "temperature", temperature)
    p = ops.softmax(_values(teacher) / temperature).data  # (B, K)
    xp = array_module(p)
    entropy = -(p * xp.log(xp.where(p > 0, p, 1))).sum() / len(p)  # 0 · log 0 is 0
    crossed = ops.cross_entropy(both[1] * (1 / temperature), p)
    divergence = (crossed - entropy) * (1 / p.shape[1])
    of_label = ops.cross_entropy(both[0], targets, smoothing=smoothing)
    return of_label * (1 - alpha) + divergence * (alpha * temperature**2)


def _values(teacher: Logits) -> Array:
    """No gradient goes to the teacher."""
    return teacher.data if isinstance(teacher, Tensor) else teacher


def _check(both: tuple[Tensor, Tensor], teacher: Logits, alpha: float) -> None:
    shapes = [x.shape for x in (*both, teacher)]
    if len(shapes) != 3 or len(set(shapes)) != 1:
        raise ValueError(
            "distillation loss: the logits of both heads and of the teacher must have one shape "
            f"(B, K), got {', '.join(map(str, shapes))}"
        )
    fraction("distillation loss", "alpha", alpha)

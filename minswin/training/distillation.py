"""Learning from a teacher: a DeiT is trained towards the answers of a trained model."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from minswin import ops
from minswin.arrays import Array, to_numpy
from minswin.autograd import Tensor, no_grad
from minswin.devices import device_of, to_device
from minswin.distributed import Group, Share
from minswin.layers import Layer
from minswin.models.deit import (
    DistilledVisionTransformer,
    hard_distillation_loss,
    soft_distillation_loss,
)
from minswin.models.registry import DISTILLED
from minswin.parallel import data_parallel
from minswin.training.checkpoints import BEST, LAST, find_trained, load_trained_model
from minswin.training.inputs import Images, Model
from minswin.training.settings import Settings


class TwoHeads(Layer):
    """The answers of both heads of a DeiT as one Tensor, so that threads can share the batch.

    Takes    images (B, 3, H, W)        Gives (B, 2, num_classes): `head`, then `head_dist`
    """

    def __init__(self, model: DistilledVisionTransformer) -> None:
        self.model = model

    def __call__(self, x: Tensor | Array) -> Tensor:
        return ops.stack(*self.model.both(x), axis=1)  # (B, 2, K)


class Distillation:
    """The teacher of a run, and the loss of the student that learns from it.

    The teacher sees the same batch as the student, after augmentation and mixing, normalised by
    what its own images were. It is in evaluation mode; no gradient and no update reaches it.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        images: Images,
        *,
        threads: int | None,
        group: Group | None = None,
    ) -> None:
        assert settings.teacher is not None
        _require_two_heads(model)
        file = find_trained(settings.teacher)
        teacher, info = load_trained_model(file)
        if file.name in (BEST, LAST) and file.resolve().parent == settings.folder.resolve():
            raise ValueError(
                f"train: this run would replace its teacher {file}; choose another folder for "
                "the run with --out"
            )
        _require_same_task(settings.teacher, info["data"], images)
        self.described = {"model": info["model"]["name"], "weights": _check_sum(teacher)}
        teacher.to(device_of(next(model.parameters()).data))
        self.settings = settings
        self._teacher = data_parallel(teacher, threads, group)
        self._student = data_parallel(TwoHeads(model), threads, group)
        self._learnt = info["data"]["mean"], info["data"]["std"]
        self._change: tuple[Array, Array] | None = None  # None: both are normalised alike

    def take_images_of(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """By what the images of the run are normalised: the teacher's may have been otherwise.

        (x s + m − mₜ) / sₜ = x (s/sₜ) + (m − mₜ)/sₜ      m, s the run's, mₜ, sₜ the teacher's
        """
        self._change = None
        if (list(mean), list(std)) == tuple(map(list, self._learnt)):
            return
        (m, s), (m_t, s_t) = np.array([mean, std]), np.array(self._learnt)
        where = device_of(next(self._teacher.model.parameters()).data)
        scale, shift = (
            to_device(a.astype(np.float32)[:, None, None], where)  # (3, 1, 1)
            for a in (s / s_t, (m - m_t) / s_t)
        )
        self._change = scale, shift

    def loss(self, x: Array, targets: Array, share: Share | None = None) -> tuple[Tensor, Array]:
        """The loss of a batch, and the answer of the student: the mean of its heads, (B, K).

        share: x and targets are these samples of a batch, of which other ranks have the others
        """
        with no_grad():
            advice = self._teacher(self._as_learnt(x)).data  # (B, K)
        heads = self._student(x, share)  # (B, 2, K)
        both, s = (heads[:, 0], heads[:, 1]), self.settings
        common = {"alpha": s.alpha, "smoothing": s.smoothing}
        if s.distillation == "hard":
            loss = hard_distillation_loss(both, targets, advice, **common)
        else:
            loss = soft_distillation_loss(
                both, targets, advice, temperature=s.temperature, **common
            )
        return loss, heads.data.mean(axis=1)

    def _as_learnt(self, x: Array) -> Array:
        """The images as the teacher's own were normalised."""
        if self._change is None:
            return x
        scale, shift = self._change
        return x * scale + shift

    def require_same_teacher(self, began: dict[str, Any]) -> None:
        """Raise unless the run began with this very teacher: its bits decide those of the run."""
        if began != self.described:
            raise ValueError(
                "train: the teacher {} is a '{model}' of check sum {weights}, ".format(
                    self.settings.teacher, **self.described
                )
                + "but the run began with a '{model}' of check sum {weights}; ".format(**began)
                + "say where that one is with --teacher"
            )

    def close(self) -> None:
        self._teacher.close()
        self._student.close()


def _check_sum(model: Model) -> str:
    """Of all weights, as a checkpoint keeps them or rounded for export."""
    total = 0
    for name, array in sorted(model.state_dict().items()):
        total = zlib.crc32(np.ascontiguousarray(to_numpy(array)).tobytes(), total)
        total = zlib.crc32(name.encode(), total)
    return f"{total:08x}"


def _require_two_heads(model: Model) -> None:
    if not isinstance(model, DistilledVisionTransformer):
        raise ValueError(
            f"train: {model.name} has no distillation head, so it cannot learn from a teacher; "
            f"leave out --teacher, or choose a --model from {', '.join(DISTILLED)}"
        )


def _require_same_task(teacher: str, trained_on: dict[str, Any], images: Images) -> None:
    """Raise unless the teacher was trained for images of this size and for these classes."""
    size, ours = tuple(trained_on["image"]), images.images.shape[1:]
    if size != ours:
        raise ValueError(
            f"train: the teacher {teacher} was trained on images {size}, those of "
            f"'{images.name}' are {ours}; train a teacher on '{images.name}' first"
        )
    if trained_on["classes"] != list(images.classes):
        raise ValueError(
            f"train: the teacher {teacher} tells the {len(trained_on['classes'])} classes of "
            f"'{trained_on['name']}' apart, not the {len(images.classes)} of '{images.name}'; "
            f"train a teacher on '{images.name}' first"
        )

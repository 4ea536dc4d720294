"""From a Dataset to the batches of an epoch: order, augmentation, normalization, targets.

Everything drawn for step i of epoch e comes from (seed, e, i) alone. So a run that is resumed at
any step goes on exactly as it would have, with no state to store, and batches may be made in any
order, ahead of time or in several threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minswin.arguments import checks_switches, switch, whole
from minswin.data import augment as change
from minswin.data.dataset import STATISTICS, Dataset, normalize, stream

Batch = tuple[NDArray[np.float32], NDArray[Any]]
ORDER, STEP = 0, 1  # the two uses of random numbers: the order of an epoch, the draws of a step


@dataclass(frozen=True)
class Augmentation:
    """What is done to the bytes of a batch, in this order; 0 leaves a step out."""

    flip: bool = False
    padding: int = 0
    operations: int = 0
    magnitude: float = 9.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        switch("Augmentation", "flip", self.flip)

    def __call__(self, images: NDArray[np.uint8], *, rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.flip:
            images = change.flip(images, rng=rng)
        if self.padding:
            images = change.crop(images, padding=self.padding, rng=rng)
        if self.operations:
            images = change.rand_augment(
                images, rng=rng, operations=self.operations, magnitude=self.magnitude
            )
        if self.erasing:
            images = change.random_erasing(images, rng=rng, probability=self.erasing)
        return images


LEVELS = {
    "none": Augmentation(),
    "basic": Augmentation(flip=True, padding=4),
    "strong": Augmentation(flip=True, padding=4, operations=2, magnitude=9.0, erasing=0.25),
}


class Batches:
    """The batches of a dataset, epoch by epoch: `for x, targets in batches.epoch(e)`.

    Gives    x (B, 3, H, W) float32, normalized, and targets: labels (B,) int64, or probabilities
             (B, K) float32 as soon as mixup, cutmix or smoothing is above 0

    `mixup` and `cutmix` are the α of their Beta distribution; with both, a coin is tossed for each
    batch. Smoothing is done here, so the loss must not do it again. In the first `piece_epochs`
    epochs x holds a random piece × piece square of each augmented image (progressive resizing).
    Where mean and std are left out they are those of the named set.
    """

    @checks_switches
    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int,
        augment: str | Augmentation = "none",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        smoothing: float = 0.0,
        piece: int = 0,
        piece_epochs: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        if not 1 <= batch_size or (drop_last and batch_size > len(dataset)):
            raise ValueError(
                f"Batches: batch_size is {batch_size}, expected 1 to {len(dataset)}, "
                f"the number of samples in {dataset.name}"
            )
        if min(mixup, cutmix) < 0 or not 0 <= smoothing < 1:
            raise ValueError(
                f"Batches: mixup is {mixup}, cutmix is {cutmix}, smoothing is {smoothing}; "
                "expected 0 or more, 0 or more, and 0 to below 1"
            )
        whole("Batches", "seed", seed, 0)
        side = min(dataset.images.shape[2:])
        if piece_epochs and not 1 <= piece <= side:
            raise ValueError(f"Batches: piece is {piece}, expected 1 to {side}, the images' side")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.piece, self.piece_epochs = piece, piece_epochs
        self.augment = _augmentation(augment)
        self.mixup, self.cutmix, self.smoothing = mixup, cutmix, smoothing
        self.mean, self.std = _statistics(dataset.name, mean, std)
        self.shuffle, self.drop_last = shuffle, drop_last
        self._last_order: tuple[int, NDArray[np.int64]] | None = None

    @classmethod
    def evaluation(
        cls,
        dataset: Dataset,
        batch_size: int,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Batches:
        """Every sample once, in order, unchanged; the last batch may be short."""
        return cls(dataset, batch_size, seed=0, mean=mean, std=std, shuffle=False, drop_last=False)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on."""
        if not 0 <= start <= len(self):
            raise ValueError(f"Batches.epoch: start is {start}, expected 0 to {len(self)}")
        return (self.batch(epoch, step) for step in range(start, len(self)))

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch of one step: depends on nothing but the seed, the epoch and the step."""
        if not 0 <= step < len(self):
            raise IndexError(f"Batches.batch: step is {step}, expected 0 to {len(self) - 1}")
        chosen = self.order(epoch)[step * self.batch_size :][: self.batch_size]
        rng = stream(self.seed, STEP, epoch, step)
        images = self.augment(self.dataset.images[chosen], rng=rng)
        if epoch < self.piece_epochs:
            images = change.piece(images, side=self.piece, rng=rng)
        x = normalize(images, mean=self.mean, std=self.std)
        return self._mixed(x, self.dataset.labels[chosen], rng)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The numbers of the samples in the order of this epoch; the last one asked is kept."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        kept = self._last_order
        if kept is None or kept[0] != epoch:
            kept = epoch, stream(self.seed, ORDER, epoch).permutation(len(self.dataset))
            self._last_order = kept
        return kept[1]

    def _mixed(
        self, x: NDArray[np.float32], labels: NDArray[np.int64], rng: np.random.Generator
    ) -> Batch:
        if not (self.mixup or self.cutmix or self.smoothing):
            return x, labels
        classes = len(self.dataset.classes)
        targets = change.one_hot(labels, classes=classes, smoothing=self.smoothing)
        boxed = rng.random() < 0.5 if self.mixup and self.cutmix else bool(self.cutmix)
        if boxed:
            return change.cutmix(x, targets, alpha=self.cutmix, rng=rng)
        if self.mixup:
            return change.mixup(x, targets, alpha=self.mixup, rng=rng)
        return x, targets


def _augmentation(choice: str | Augmentation) -> Augmentation:
    if isinstance(choice, Augmentation):
        return choice
    if choice not in LEVELS:
        raise ValueError(f"Batches: augment is {choice!r}, expected one of {', '.join(LEVELS)}")
    return LEVELS[choice]


def _statistics(
    name: str, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    if mean is not None and std is not None:
        return mean, std
    if name not in STATISTICS:
        raise ValueError(
            f"Batches: nothing is known of the colours of {name!r}; give mean and std, three "
            "numbers each"
        )
    known_mean, known_std = STATISTICS[name]
    return known_mean if mean is None else mean, known_std if std is None else std

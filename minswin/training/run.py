"""The parts of a run and where it stands: built from settings, evaluated, checked for good numbers.

What it keeps on disk is in folder.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels, ops
from minswin.arrays import Array, array_module
from minswin.autograd import Tensor, no_grad
from minswin.data.ahead import ahead
from minswin.devices import to_device
from minswin.distributed import Group, Share
from minswin.parallel import cores, data_parallel
from minswin.training import checkpoints
from minswin.training.checkpoints import LAST
from minswin.training.distillation import Distillation
from minswin.training.ema import WeightAverage
from minswin.training.evaluation import Evaluation, evaluate, quiet, share_of
from minswin.training.fit import Diverged
from minswin.training.gpu import feed
from minswin.training.inputs import (
    Images,
    Model,
    evaluation_batches,
    load_sets,
    new_model,
    new_optimizer,
    require_known_model,
    tell,
    training_batches,
)
from minswin.training.learnt import Info, cuts_of, cuts_to_begin_with, split_of
from minswin.training.optimizers import warmup_cosine
from minswin.training.precision import LossScale, computing
from minswin.training.settings import Settings
from minswin.training.starting import begin_with


class Update(NamedTuple):
    """What is known of one update."""

    loss: float  # the mean of its batch
    right: int  # answers of its batch
    norm: float  # of the gradient, before it was clipped
    images: int
    lr: float
    skipped: bool = False  # its gradients overflowed in float16: nothing was changed


@dataclass
class Totals:
    """What an epoch has added up so far; saved, so that a resumed epoch reports all of itself."""

    images: int = 0
    loss: float = 0.0
    right: int = 0


class Run:
    """A run of training: its data, model, optimizer and averaged weights, and how far it is."""

    def __init__(
        self, settings: Settings, *, resumed: Info | None = None, group: Group | None = None
    ) -> None:
        """resumed: what a checkpoint says, from which the weights come, not from `settings.weights`

        group: the ranks that share each batch; all hold the same weights
        """
        self.settings, self.group = settings, group or Group()
        require_known_model(settings.model)
        cuts = cuts_to_begin_with(settings) if resumed is None else cuts_of(resumed)
        self.split = split_of(settings.data, cuts)
        self.train_set, self.held_out, self.test_set = load_sets(settings, cuts)
        self.batches = training_batches(self.train_set, settings)
        self.model: Model = new_model(settings, self.train_set)
        self.teaching: Distillation | None = None
        if settings.weights and resumed is None:
            self.normalise_by(*begin_with(self.model, settings.weights, tell=tell))
        self.model.to(settings.device)
        weights = next(self.model.parameters()).data
        with self.computing():  # raises now if what it needs cannot be loaded
            short = kernels.chosen(weights) == "bfloat16"
        self.backend = "bfloat16" if short else kernels.chosen(weights)
        with kernels.using(self.backend):  # raises now too
            pass
        self.late = settings.device != "cpu"  # updates are read some steps later (updates.py)
        whole = self.late or settings.precision == "float16"  # the batch is not split
        threads = 1 if whole else settings.threads
        self.forward = data_parallel(self.model, threads, self.group)
        self.workers = settings.workers or (min(8, cores()) if self.late else 1)
        if settings.teacher:
            self.teaching = Distillation(
                self.model, settings, self.train_set, threads=threads, group=self.group
            )
            self.normalise_by(self.batches.mean, self.batches.std)
        self.optimizer = new_optimizer(self.model, settings, self.group)
        self.average = (
            WeightAverage(self.model.named_parameters(), settings.ema) if settings.ema else None
        )
        self.scale = (
            LossScale(next(self.model.parameters()).data)
            if settings.precision == "float16"
            else None
        )
        self.epoch = self.step_in_epoch = 0
        self.best_accuracy: float | None = None
        self.accuracy: float | None = None  # of the last evaluation
        self.totals = Totals()

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """The statistics of the images, in training and evaluation."""
        self.batches.mean, self.batches.std = mean, std
        if self.teaching is not None:
            self.teaching.take_images_of(mean, std)

    # ── where it stands ──────────────────────────────────────────────────────────────────────────

    @property
    def step(self) -> int:
        """Updates made since the beginning."""
        return self.epoch * len(self.batches) + self.step_in_epoch

    @property
    def steps(self) -> int:
        return self.settings.epochs * len(self.batches)

    def learning_rate(self, step: int) -> float:
        s = self.settings
        return warmup_cosine(
            step,
            steps=self.steps,
            warmup=min(self.steps, round(s.warmup * len(self.batches))),
            base=s.lr,
            start=s.lr * s.start_lr,
            final=s.lr * s.final_lr,
        )

    def loss(self, x: Array, targets: Array, share: Share | None = None) -> tuple[Tensor, Array]:
        """The loss of a batch that is trained on, and the logits (B, K).

        share: x and targets are these samples of it; the loss is what they add to its mean
        """
        if self.teaching is not None:
            loss, logits = self.teaching.loss(x, targets, share)
        else:
            answer = self.forward(x, share)
            loss = ops.cross_entropy(answer, targets, smoothing=self.settings.smoothing)
            logits = answer.data
        return (loss if share is None or share.weight == 1 else loss * share.weight), logits

    def computing(self) -> AbstractContextManager[None]:
        """Inside this block operations work in the precision of the run."""
        return computing(self.settings.precision, self.settings.device)

    def rest_of_epoch(self) -> Iterator[tuple[Array, ...]]:
        """The batches that are left of this epoch, made ahead, on the device of the run."""
        places = range(self.step_in_epoch, len(self.batches))
        make = partial(self.batches.batch, self.epoch)
        return self.feed(ahead(make, places, workers=self.workers))

    def feed(self, batches: Iterable[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
        """The batches on the device of the run."""
        return feed(batches, self.settings.device)

    def count(self, update: Update) -> None:
        """Add one step to the totals, those of its batch only if the update was made."""
        self.step_in_epoch += 1
        if update.skipped:
            return
        self.totals.images += update.images
        self.totals.loss += update.loss * update.images
        self.totals.right += update.right

    def close_epoch(self, result: Evaluation) -> bool:
        """Go on to the next epoch; tell whether this one was the best so far."""
        self.epoch, self.step_in_epoch, self.totals = self.epoch + 1, 0, Totals()
        self.accuracy, before = result.accuracy, self.best_accuracy
        self.best_accuracy = result.accuracy if before is None else max(before, result.accuracy)
        return before is None or result.accuracy > before

    def is_time_to_save(self) -> bool:
        """Whether this step is one of those after which a run is saved, besides ends of epochs."""
        every = self.settings.checkpoint_every
        return bool(every) and self.step % every == 0

    def require_finite(self, loss: float, norm: float, lr: float, *, step: int) -> None:
        """Raise if the loss or the gradient of the update after this many steps is not a number."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = f"the loss became {loss}" if not math.isfinite(loss) else f"a gradient became {norm}"
        where = f"in epoch {self.epoch + 1}, step {step + 1} (lr {lr:.3g})"
        when = "nothing was saved since" if self.late else "this update was not made"
        raise self._diverged(f"{what} {where}; {when}")

    def require_good(self) -> None:
        """Raise unless all that is to be saved is finite, and the loss of the next batch too.

        That batch is classified without dropout, so no random number is drawn: a run that is saved
        more often gives the same bits.
        """
        for name, array in self._arrays():
            if not array_module(array).isfinite(array).all():
                raise self._diverged(f"'{name}' is no longer finite after {self._now()}; not saved")
        whole = self.step_in_epoch == len(self.batches)
        place = (self.epoch + 1, 0) if whole else (self.epoch, self.step_in_epoch)
        x, targets = (to_device(a, self.settings.device) for a in self.batches.batch(*place))
        share = self.group.share(len(x))
        with self.model.evaluating(), no_grad(), quiet(), self.computing():
            part = ops.cross_entropy(self.forward(x[share.rows]), targets[share.rows]).item()
        loss = self.group.all_reduce(np.array(part * share.weight)).item()
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss} after {self._now()}; not saved")

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for part in (self.model, self.optimizer, self.average):
            if part is not None:
                yield from part.state_dict().items()

    def _now(self) -> str:
        return f"epoch {self.epoch + 1 if self.step_in_epoch else self.epoch}, step {self.step}"

    def _diverged(self, what: str) -> Diverged:
        last = self.settings.folder / LAST
        return Diverged(
            f"train: {what}. Try a smaller --lr (say {self.settings.lr / 4:.2g}), a longer "
            f"--warmup or a smaller --clip; the last good checkpoint is {last}"
        )

    # ── evaluation ───────────────────────────────────────────────────────────────────────────────

    def evaluate(self) -> Evaluation:
        """Classify the held-out images (without any: the test set) with the averaged weights."""
        images = self.test_set if self.held_out is None else self.held_out
        if self.average is None:
            return self._classify(images)
        with self.average.applied():
            return self._classify(images)

    def test_best(self) -> Evaluation:
        """Classify the test set with the weights that did best on the held-out images."""
        best = self.group.lead(self._read_best)
        self.model.load_state_dict({**best.weights, **best.average})
        return self._classify(self.test_set)

    def _read_best(self) -> checkpoints.Checkpoint:
        """The best epoch; the last one, where somebody has removed the best (folder.py)."""
        return checkpoints.read_checkpoint(checkpoints.find_trained(self.settings.folder))

    def _classify(self, images: Images) -> Evaluation:
        mine = share_of(images, self.group)
        batches = self.feed(evaluation_batches(mine, (self.batches.mean, self.batches.std)))
        with self.computing():
            result = evaluate(self.model, batches, forward=self.forward, group=self.group)
        if not math.isfinite(result.loss):
            what = f"the loss of the {len(images):,} images to evaluate on became {result.loss}"
            raise self._diverged(f"{what} after {self._now()}")
        return result

    def describe_data(self) -> Mapping[str, Any]:
        return {
            "name": self.train_set.name,
            "images": len(self.train_set),
            "classes": list(self.train_set.classes),
            "image": list(self.train_set.images.shape[1:]),
            "mean": list(self.batches.mean),
            "std": list(self.batches.std),
            **({"split": self.split} if self.split else {}),
        }

    def close(self) -> None:
        self.forward.close()
        if self.teaching is not None:
            self.teaching.close()

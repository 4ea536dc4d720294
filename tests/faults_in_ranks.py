"""Mistakes that data parallel trainings are known for; each must change the numbers of a run.

A fault is a function that puts itself in the place of the right code, by a pytest.MonkeyPatch.
"""

from __future__ import annotations

import numpy as np

from minswin.buckets import Exchange
from minswin.distributed import Group, MPIGroup, Share
from minswin.parallel import Part
from minswin.training import updates
from minswin.training.fit import backward


def bucket_reduced_twice(patch):
    right = Exchange._sum

    def twice(self, bucket):
        total = right(self, bucket)
        return self._group.sum_now(total) if bucket is self._buckets[0] else total

    patch.setattr(Exchange, "_sum", twice)


def rank_skipped(patch):
    """The last rank adds nothing."""

    def skipping(self, array):
        mine = array if self.rank < self.size - 1 else np.zeros_like(array)
        total = self._comm.allreduce(mine)
        array[...] = total
        return array

    patch.setattr(MPIGroup, "sum_now", skipping)


def sum_for_mean(patch):
    """Each rank takes the mean of its share, and the means are added."""
    right = Group.share
    patch.setattr(Group, "share", lambda self, n: right(self, n)._replace(weight=1.0))


def mean_of_means(patch):
    """Shares count alike, although they are not of equal length."""
    right = Group.share
    patch.setattr(Group, "share", lambda self, n: right(self, n)._replace(weight=1 / self.size))


def local_clip(patch):
    """Each rank clips its own gradients before they are summed."""
    right, group = MPIGroup.sum_now, []

    def later(self, array):
        group[:] = [self]
        return array

    def clipped(model, loss, clip, scale):
        norm = backward(model, loss, clip, scale)
        for p in model.parameters():
            p.grad = group[0].all_reduce(p.grad)
        return norm

    patch.setattr(MPIGroup, "sum_now", later)
    patch.setattr(
        MPIGroup, "all_reduce", lambda self, array: self._call(lambda: right(self, array))
    )
    patch.setattr(updates, "backward", clipped)


def wrong_share(patch):
    """All ranks take the first samples, as many as are theirs."""
    right = Group.share

    def first(self, n):
        share = right(self, n)
        return Share(0, share.end - share.start, n, share.weight)

    patch.setattr(Group, "share", first)


def another_dropout_mask(patch):
    """Each rank draws for the first samples of the batch."""
    right = Part.random

    def drawn(self, shape, dtype=np.float64):
        length, self.start = self.end - self.start, 0
        self.end = length
        return right(self, shape, dtype)

    patch.setattr(Part, "random", drawn)


def a_rank_alone_updates(patch):
    """Gradients are summed for nobody: each rank goes its own way."""
    patch.setattr(MPIGroup, "sum_now", lambda self, array: array)


FAULTS = {
    f.__name__: f
    for f in (
        bucket_reduced_twice,
        rank_skipped,
        sum_for_mean,
        mean_of_means,
        local_clip,
        wrong_share,
        another_dropout_mask,
        a_rank_alone_updates,
    )
}

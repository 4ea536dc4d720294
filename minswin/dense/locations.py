"""Where the tokens of a pyramid are in the image, and what each should predict of the objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

REACH = 4.0  # a map finds objects whose farthest edge is up to this many of its tokens away
CENTRAL = 1.5  # and whose centre is up to this many tokens away


class Aims(NamedTuple):
    """What the tokens of a batch should predict; boxes and centre count only where an object is.

    labels (B, P), −1 for none   boxes (B, P, 4), in pixels   centre (B, P), 0 to 1
    """

    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    centre: NDArray[np.float32]


class Locations(NamedTuple):
    """The middles of the P tokens of all maps, fine to coarse.

    places (P, 2): x, y in pixels   strides (P, 1): how wide the token is
    reach (P, 2): the farthest edge of the objects of its map lies between these distances
    """

    places: NDArray[np.float32]
    strides: NDArray[np.float32]
    reach: NDArray[np.float32]

    @classmethod
    def of(cls, size: tuple[int, int], strides: Sequence[int]) -> Locations:
        """Of an image of (H, W) whose maps have tokens `strides` pixels wide."""
        places, widths, reach = [], [], []
        for i, stride in enumerate(strides):
            y, x = (np.arange(-(-side // stride)) * stride + stride / 2 for side in size)
            across = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)  # row by row
            least = 0.0 if i == 0 else REACH * strides[i - 1]
            far = np.inf if i == len(strides) - 1 else REACH * stride
            places.append(across)
            widths.append(np.full((len(across), 1), stride))
            reach.append(np.tile([least, far], (len(across), 1)))
        return cls(*(np.concatenate(part).astype(np.float32) for part in (places, widths, reach)))

    def aims(
        self, boxes: Sequence[NDArray[Any]], labels: Sequence[NDArray[np.integer[Any]]]
    ) -> Aims:
        """What every token should predict of the objects of each image: boxes (n, 4), labels (n,).

        A token that lies on several objects belongs to the smallest.        Tian et al. 2019, §3.2
        """
        images = [self._aims(*pair) for pair in zip(boxes, labels, strict=True)]
        return Aims(*(np.stack(part) for part in zip(*images, strict=True)))

    def _aims(self, boxes: NDArray[Any], labels: NDArray[Any]) -> tuple[Any, Any, Any]:
        P = len(self.places)
        if not len(boxes):
            none = np.full(P, -1, np.int64)
            return none, np.zeros((P, 4), np.float32), np.zeros(P, np.float32)
        boxes = boxes.astype(np.float32)
        distances = self._distances(boxes)  # (P, n, 4)
        farthest = distances.max(axis=-1)
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2  # (n, 2)
        away = abs(self.places[:, None] - middle).max(axis=-1)  # (P, n)
        fits = (distances.min(axis=-1) > 0) & (away < CENTRAL * self.strides)
        fits &= (self.reach[:, :1] < farthest) & (farthest <= self.reach[:, 1:])
        sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)  # (n,)
        smallest = np.where(fits, sizes, np.inf).argmin(axis=1)  # (P,)
        label = np.where(fits.any(axis=1), labels[smallest], -1)
        return label, boxes[smallest], centreness(distances[np.arange(P), smallest])

    def _distances(self, boxes: NDArray[Any]) -> NDArray[Any]:
        """To the left, upper, right, lower edge; negative beyond.        (n, 4) to (P, n, 4)"""
        place = self.places[:, None]  # (P, 1, 2)
        return np.concatenate([place - boxes[:, :2], boxes[:, 2:] - place], axis=-1)


def centreness(distances: NDArray[Any]) -> NDArray[Any]:
    """√(min(l, r)/max(l, r) · min(t, b)/max(t, b)): 1 in the middle, 0 on the rim.   Eq. (3)

    distances (..., 4)   gives (...); 0 outside of the box
    """
    pairs = distances.reshape(*distances.shape[:-1], 2, 2).clip(0)  # [[l, t], [r, b]]
    low, high = pairs.min(axis=-2), pairs.max(axis=-2)  # (..., 2)
    ratio = np.divide(low, high, out=np.zeros_like(low), where=high > 0)
    return np.sqrt(ratio.prod(axis=-1))

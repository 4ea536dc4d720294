"""Cost of one image against its side: Swin is linear in the area, ViT's attention quadratic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minswin import kernels, no_grad
from minswin.bench.breakdown import Ledger, watching
from minswin.bench.clock import Spread, Step, seconds, spread
from minswin.bench.setups import Setup, our_model
from minswin.models import list_models

SIDES = (112, 224, 448, 672, 1024)
MODELS = ("swin_tiny", "vit_small")  # windows, and attention over the whole image
MULTIPLE = 16  # of ViT's patches
MAX_ROUNDS = 5  # the large images take long, and differ little


class Point(NamedTuple):
    """Inference of one image, on one core: a batch of one cannot be split."""

    side: int
    macs: int  # multiply-adds, counted while it ran
    times: Spread


Sweep = dict[str, list[Point]]  # of every model


def check_sides(sides: Sequence[int]) -> None:
    wrong = [side for side in sides if side < 32 or side % MULTIPLE]
    if wrong or not sides:
        raise ValueError(
            f"bench: sides must be multiples of {MULTIPLE}, 32 or more, got {wrong or 'none'}; "
            f"the default is {' '.join(map(str, SIDES))}"
        )


def sweep(sides: Sequence[int], *, rounds: int) -> Sweep:
    """Time the models on all sides in turn; a model that there is not is left out."""
    names = [name for name in MODELS if name in list_models()]
    macs: dict[tuple[str, int], int] = {}
    steps: dict[tuple[str, int], Step] = {}
    for name in names:
        for side, step in _steps(name, sides):
            with watching(Ledger()) as ledger:
                step()  # warm
            macs[name, side], steps[name, side] = ledger.macs, step
    times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    for _ in range(min(rounds, MAX_ROUNDS)):
        for key, step in steps.items():
            times[key].append(seconds(step))
    return {n: [Point(s, macs[n, s], spread(times[n, s])) for s in sides] for n in names}


def _steps(name: str, sides: Sequence[int]) -> list[tuple[int, Callable[[], Any]]]:
    """Inference for every side. One Swin serves all of them; ViT learns a position per patch."""
    rng = np.random.default_rng(0)
    swin = our_model(Setup(name, 1, 224, 1000), rng) if name.startswith("swin") else None
    models = [swin or our_model(Setup(name, 1, side, 1000), rng) for side in sides]
    return [(side, _inference(model, side)) for side, model in zip(sides, models, strict=True)]


def _inference(model: Any, side: int) -> Step:
    image = np.random.default_rng(side).standard_normal((1, 3, side, side), dtype=np.float32)
    model.eval()

    def step() -> Any:
        with kernels.using("numba"), no_grad():
            return model(image)

    return step


def base(points: Sequence[Point]) -> Point:
    """What the others are compared with: the side of 224 or, without it, the first."""
    return next((p for p in points if p.side == 224), points[0])


def per_pixel(points: Sequence[Point]) -> dict[int, tuple[float, float]]:
    """By side: (time, multiply-adds) of a pixel, as multiples of those of the base."""
    start = base(points)
    area = {p.side: (p.side / start.side) ** 2 for p in points}
    return {
        p.side: (
            p.times.median / start.times.median / area[p.side],
            p.macs / start.macs / area[p.side],
        )
        for p in points
    }

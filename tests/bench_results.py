"""A small configuration of `minswin bench`, and a race with made-up times."""

from __future__ import annotations

from minswin.bench import peers
from minswin.bench.clock import spread
from minswin.bench.race import Lap, Start
from minswin.bench.setups import Setup

SMALL = Setup("swin_shapes", 4, 32, 10)


def lap(train, infer, peak, parameters=7):
    start = Start(parameters, first_step=2 * train, imported=peak / 3, peak=peak)
    return Lap(start, spread([train] * 3), spread([infer] * 3))


RESULT = {
    "minswin": lap(0.5, 0.2, 300.0),
    "timm": lap(0.75, 0.4, 900.0),
    "transformers-fused": lap(1.0, 0.25, 1050.0),
    "timm-fused": "ImportError: " + peers.MISSING,
}

"""The race: every contender in a process of its own, taking turns, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

from minswin.bench.children import Child, Failed
from minswin.bench.clock import Spread, peak_memory, seconds, spread
from minswin.bench.contenders import build, load
from minswin.bench.setups import Setup

PHASES = ("train", "infer")
REST = 0.25  # seconds between two turns, in which the threads of the last one go to sleep

# Nobody is told which kernels of OpenBLAS to take: each library chooses by the CPU.
ENVIRONMENT = {"OPENBLAS_CORETYPE": None}

Times = dict[str, dict[str, list[float]]]  # by contender and phase
Tell = Callable[[str], None]


class Start(NamedTuple):
    """What a contender reports once it is warm."""

    parameters: int
    first_step: float  # seconds of the first training step, with what is compiled for it
    imported: float  # MiB that the process has held at most, before it built the model
    peak: float  # the same after two training steps


class Lap(NamedTuple):
    """What was measured of one contender."""

    start: Start
    train: Spread
    infer: Spread


Result = dict[str, Lap | str]  # the measurements of each contender, or why there are none


def race(
    contenders: Iterable[str], setup: Setup, *, threads: int, rounds: int, tell: Tell
) -> Result:
    """Time each contender's steps in turn; one that cannot take part gives its reason.

    Without "minswin", which comes first, there is nothing to compare with, and nobody runs.
    """
    with ExitStack() as stack:
        lanes: dict[str, Child] = {}
        reasons: dict[str, str] = {}
        for name in contenders:
            try:
                lane = Child(_lane, name, setup, threads, environment=ENVIRONMENT)
                lanes[name] = stack.enter_context(lane)
                same_parameters(lane.answer, lanes["minswin"].answer)
                tell(f"{name} is warm, first step {lane.answer.first_step:.1f} s")
            except Failed as error:
                lanes.pop(name, None)
                reasons[name] = str(error)
                tell(f"{name} does not take part: {error}")
                if name == "minswin":
                    break
        starts = {name: lane.answer for name, lane in lanes.items()}
        times = _turns({name: lane.ask for name, lane in lanes.items()}, rounds, tell)
    return {**{n: _lap(starts[n], times[n]) for n in lanes}, **reasons}


def same_parameters(start: Start, ours: Start) -> None:
    """Models with different numbers of parameters are not the same model."""
    if start.parameters != ours.parameters:
        raise Failed(f"it has {start.parameters:,} parameters, minswin has {ours.parameters:,}")


def _turns(lanes: dict[str, Callable[[str], float]], rounds: int, tell: Tell) -> Times:
    """In every round each lane has one turn; another lane begins in every round."""
    times: Times = {name: {phase: [] for phase in PHASES} for name in lanes}
    names = list(lanes)
    for phase in PHASES if names else ():
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                times[name][phase].append(lanes[name](phase))
                time.sleep(REST)
        tell(f"{rounds} rounds of {phase} are done")
    return times


def _lap(start: Start, times: dict[str, list[float]]) -> Lap:
    return Lap(start, *(spread(times[phase]) for phase in PHASES))


def _lane(name: str, setup: Setup, threads: int) -> Generator[Any, str, None]:
    """In the child: build a contender, warm it up, then time the step that is asked for."""
    load(name)
    imported = peak_memory()
    contender = build(name, setup, threads)
    first = seconds(contender.train)
    contender.train()
    peak = peak_memory()
    contender.infer()
    steps = {"train": contender.train, "infer": contender.infer}
    phase = yield Start(contender.parameters, first, imported, peak)
    while True:
        phase = yield seconds(steps[phase])


def ratios(result: Result) -> dict[str, dict[str, float]]:
    """Each contender's median times and peak memory by those of minswin."""
    ours = result["minswin"]
    if isinstance(ours, str):
        return {}
    return {
        name: {
            "train": lap.train.median / ours.train.median,
            "infer": lap.infer.median / ours.infer.median,
            "memory": lap.start.peak / ours.start.peak,
        }
        for name, lap in result.items()
        if not isinstance(lap, str)
    }

"""Training steps in several processes of this machine, and what to expect of more machines.

    minswin bench --scaling

Measured here: a step of one batch by 1, 2 and 4 ranks beside as many threads of one process; how
long gradients travel, and how much of that backward hides. The rest is a prediction, and says so:
every rank keeps the batch that one rank had here, and a ring carries the gradients.

    T(n) = max(D n, F + max(B, C − c) + c)       F forward and update, B backward, C all buckets,
    C    = Σ 2 (n − 1) (α + b / (n β))           c the last one, b bytes of a bucket, D making the
                                                 images of one rank's share
                                                 Patarasuk & Yuan 2009, eq. (1); Li et al. 2020
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from minswin.bench.machine import machine, machine_line, save_json
from minswin.bench.report import columns
from minswin.bench.setups import SETUPS, Setup, data, our_model
from minswin.replacing import require_replaceable

SETUP = SETUPS["cifar"]
WAYS = ((1, 1), (1, 2), (2, 1), (4, 1))  # ranks, threads of each
RANKS = (8, 64, 512)
WARM_UP = 3


class Network(NamedTuple):
    """Seconds before the first byte of a message arrives, and bytes a second."""

    latency: float
    bandwidth: float


# Nominal rates; the latencies are usual ones of TCP, of RDMA and of NCCL inside a machine.
NETWORKS = {
    "10 Gb/s": Network(30e-6, 10e9 / 8),
    "100 Gb/s": Network(3e-6, 100e9 / 8),
    "NVLink 4": Network(5e-6, 450e9),
}


class Lap(NamedTuple):
    """What one way to share a batch took, in seconds of a step."""

    ranks: int
    threads: int
    step: float
    backward: float
    bytes: int  # of gradients that each rank sends in a step
    travel: float  # in which sums of gradients were on their way
    waited: float  # of that, after backward had no more to do
    images: float  # to make the images of one batch, on one core
    buckets: tuple[int, ...]  # bytes of each
    here: Network | None  # what a sum of two sizes costs between these ranks


class Prediction(NamedTuple):
    """A step of so many ranks, each with the batch of one, in seconds; none of it is measured."""

    ranks: int
    network: str
    travel: float
    step: float
    data: float  # to make the images of all ranks, as every rank does
    efficiency: float  # images a second and rank, beside one rank alone


def run(
    out: str | Path | None = None,
    *,
    rounds: int = 10,
    setup: Setup = SETUP,
    ways: Sequence[tuple[int, int]] = WAYS,
    tell: Callable[[str], None] = lambda line: None,
    show: Callable[[str], None] = lambda table: None,
) -> dict[str, Any]:
    """Measure the ways to share a batch, predict, and give and write down both."""
    if out is not None:
        require_replaceable(out, who="bench")
    found = machine()
    show(machine_line(found))
    laps = []
    for ranks, threads in ways:
        tell(f"{ranks} ranks of {threads} threads …")
        laps.append(_measured(setup, ranks, threads, rounds))
    predictions = predict(laps[0])
    results = {"machine": found, "setup": setup, "measured": laps, "predicted": predictions}
    if out is not None:
        save_json(results, Path(out))
    show(measured_table(laps, found["cores_usable"]))
    show(predicted_table(predictions))
    return results


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


def _measured(setup: Setup, ranks: int, threads: int, rounds: int) -> Lap:
    """One way, in processes of its own."""
    asked = json.dumps({"setup": setup, "threads": threads, "rounds": rounds})
    line = [sys.executable, "-m", __name__, asked]
    if ranks > 1:
        line = [mpiexec(), "-n", str(ranks), *line]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise OSError(f"bench: {ranks} ranks ended with status {done.returncode} ({why})")
    answer = json.loads(done.stdout.splitlines()[-1])
    here = Network(*answer.pop("here")) if answer["here"] else answer.pop("here")
    return Lap(ranks, threads, **{**answer, "buckets": tuple(answer["buckets"])}, here=here)


def mpiexec() -> str:
    """The one that lies beside this Python, or the first on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    where = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if where is None:
        raise OSError('bench: there is no mpiexec; pip install "minswin[mpi]"')
    return where


def in_a_rank(asked: dict[str, Any]) -> dict[str, Any] | None:
    """Some steps of one rank; rank 0 gives the medians."""
    from minswin import data_parallel, ops
    from minswin.buckets import plan
    from minswin.data import Batches
    from minswin.data.shapes import shapes
    from minswin.distributed import world
    from minswin.training.optimizers import AdamW

    setup, group = Setup(*asked["setup"]), world()
    model = our_model(setup, np.random.default_rng(0))
    forward = data_parallel(model, asked["threads"], group)
    optimizer, (x, targets) = AdamW(model.named_parameters(), 1e-3), data(setup)
    share = group.share(len(x))
    steps, backwards = [], []
    for step in range(WARM_UP + asked["rounds"]):
        if step == WARM_UP:
            before = forward.traffic.seconds, forward.traffic.waited, forward.traffic.bytes
        group.barrier()
        began = time.perf_counter()
        loss = ops.cross_entropy(forward(x[share.rows], share), targets[share.rows])
        model.zero_grad()
        middle = time.perf_counter()
        (loss * share.weight).backward()
        backwards.append(time.perf_counter() - middle)
        optimizer.step()
        steps.append(time.perf_counter() - began)
    traffic, rounds = forward.traffic, asked["rounds"]
    here = _network(group) if group.size > 1 else None
    pictures = Batches(shapes(2 * setup.batch, seed=0), setup.batch, seed=0, augment="strong")
    pictures.batch(0, 0)
    began = time.perf_counter()
    pictures.batch(0, 1)
    weights = [p.data for p in model.parameters()]
    return None if not group.leads else {
        "step": median(steps[WARM_UP:]),
        "backward": median(backwards[WARM_UP:]),
        "bytes": (traffic.bytes - before[2]) // rounds,
        "travel": (traffic.seconds - before[0]) / rounds,
        "waited": (traffic.waited - before[1]) / rounds,
        "images": time.perf_counter() - began,
        "buckets": [sum(weights[n].nbytes for n in bucket) for bucket in plan(weights)],
        "here": here,
    }  # fmt: skip


def _network(group: Any) -> Network:
    """α and β of a sum over the ranks, from one of 8 bytes and one of 4 MiB."""
    times = {}
    for count in (1, 1 << 19):
        array = np.zeros(count)
        laps = []
        for _ in range(12):
            group.barrier()
            began = time.perf_counter()
            group.all_reduce(array)
            laps.append(time.perf_counter() - began)
        times[count] = median(laps[2:])
    trips = 2 * (group.size - 1)
    rest = max(times[1 << 19] - times[1], 1e-9)
    return Network(times[1] / trips, trips * (1 << 22) / group.size / rest)


# ── predicting ───────────────────────────────────────────────────────────────────────────────────


def travel(buckets: Sequence[int], ranks: int, network: Network) -> float:
    """Seconds in which a ring carries these buckets, one after the other.

    >>> travel([1000], 2, Network(0.0, 1000.0))
    1.0
    """
    trips = 2 * (ranks - 1)
    return sum(trips * (network.latency + size / ranks / network.bandwidth) for size in buckets)


def predict(one: Lap) -> list[Prediction]:
    """Steps of more ranks, from one rank and thread that were measured."""
    predictions = []
    for name, network in NETWORKS.items():
        for ranks in RANKS:
            whole = travel(one.buckets, ranks, network)
            last = travel(one.buckets[-1:], ranks, network)
            step = one.step - one.backward + max(one.backward, whole - last) + last
            images = one.images * ranks
            efficiency = one.step / max(step, images)
            predictions.append(Prediction(ranks, name, whole, step, images, efficiency))
    return predictions


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def measured_table(laps: Sequence[Lap], cores: int) -> str:
    """Measured: the same batch, shared by ranks or by threads."""
    rows: list[tuple[str, ...]] = [
        ("ranks", "threads", "step", "× one", "travel", "of the step", "hidden", "α", "GB/s")
    ]
    for lap in laps:
        crowded = " (crowded)" if lap.ranks * lap.threads > cores else ""
        row = [f"{lap.ranks}{crowded}", str(lap.threads), _ms(lap.step)]
        row.append(f"{laps[0].step / lap.step:.2f}")
        if lap.here is None:
            row += [""] * 5
        else:
            hidden = 1 - lap.waited / max(lap.travel, 1e-12)
            row += [_ms(lap.travel), f"{lap.travel / lap.step:.0%}", f"{hidden:.0%}"]
            row += [_ms(lap.here.latency), f"{lap.here.bandwidth / 1e9:.1f}"]
        rows.append(tuple(row))
    return "measured on this machine: one batch, shared\n" + columns(rows)


def predicted_table(predictions: Sequence[Prediction]) -> str:
    """Predicted: each rank has the batch of one."""
    rows = [("network", "ranks", "travel", "step", "images are made in", "efficiency")]
    rows += [
        (p.network, str(p.ranks), _ms(p.travel), _ms(p.step), _ms(p.data),
         f"{p.efficiency:.0%}")
        for p in predictions
    ]  # fmt: skip
    return "PREDICTED, not measured: a batch as large for every rank\n" + columns(rows)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"


if __name__ == "__main__":
    answer = in_a_rank(json.loads(sys.argv[1]))
    if answer is not None:
        print(json.dumps(answer))

"""Training steps on a GPU, beside PyTorch in the same process and beside what the GPU can do.

    minswin bench --device gpu

Forward, backward and whole step of each model, batch and precision: this code through CuPy, its
step replayed as one graph; PyTorch eager; PyTorch compiled. The floor under a time is that of its
matrix products alone, at the rate that this GPU reaches on large ones, and for the update that of
its memory traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin.bench.clock import Spread, spread
from minswin.bench.machine import machine, machine_line, save_json
from minswin.bench.peers import of_transformers
from minswin.bench.report import columns, duration
from minswin.bench.setups import Setup, data, our_model
from minswin.devices import cupy, to_device, working_on
from minswin.replacing import require_replaceable

SETUPS = (
    Setup("swin_cifar", 128, 32, 10),
    Setup("swin_cifar", 512, 32, 10),
    Setup("swin_tiny", 64, 224, 1000),
)
PRECISIONS = ("float32", "tf32", "float16")
WARM_UP, CALLS, ROUNDS = 6, 10, 5
SIDE, COPIED = 8192, 2**28  # of the matrices; bytes


class Ceilings(NamedTuple):
    """What the GPU was measured to do: bytes a second, operations a second by precision."""

    copies: float
    products: dict[str, float]


class Work(NamedTuple):
    """What a step has to do at least."""

    macs: int  # of the forward pass of the batch
    parameters: int


class Lap(NamedTuple):
    """Seconds of one contender; `why` where it did not run."""

    who: str
    setup: Setup
    precision: str
    forward: Spread | None = None
    backward: Spread | None = None
    step: Spread | None = None
    why: str = ""


# ── the floor ────────────────────────────────────────────────────────────────────────────────────


def floor(work: Work, ceilings: Ceilings, precision: str) -> dict[str, float]:
    """The least seconds of forward, backward and step.

    forward   2 · MACs / rate        backward   twice that: one product for each of its two inputs
    step      both, and SGD with momentum, which reads p, g, v and writes p, v: 20 bytes a parameter
    """
    forward = 2 * work.macs / ceilings.products[precision]
    update = 20 * work.parameters / ceilings.copies
    return {"forward": forward, "backward": 2 * forward, "step": 3 * forward + update}


def ceilings() -> Ceilings:
    """Measured here and now; the best of several."""
    from minswin.training.precision import computing

    library = cupy()
    x = library.zeros(COPIED // 4, "float32")
    y = library.empty_like(x)
    copies = 2 * COPIED / _best(lambda: library.copyto(y, x))
    rates, rng = {}, np.random.default_rng(0)
    for precision in PRECISIONS:
        dtype = "float16" if precision == "float16" else "float32"
        a = library.asarray(rng.standard_normal((SIDE, SIDE), np.float32)).astype(dtype)
        with computing(precision if dtype == "float32" else "float32", "gpu"):
            rates[precision] = 2 * SIDE**3 / _best(lambda a=a: a @ a)  # type: ignore[misc]
    return Ceilings(copies, rates)


def _best(work: Callable[[], object]) -> float:
    return timed(work, lambda: cupy().cuda.get_current_stream().synchronize()).low


def timed(
    work: Callable[[], object],
    wait: Callable[[], object],
    *,
    warm_up: int = WARM_UP,
    calls: int = CALLS,
    rounds: int = ROUNDS,
) -> Spread:
    """Seconds of one call, of several asked for at once; `wait` returns when all are done."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        times.append((time.perf_counter() - start) / calls)
    return spread(times)


# ── who runs ─────────────────────────────────────────────────────────────────────────────────────


def ours(setup: Setup, precision: str) -> Lap:
    """This code through CuPy."""
    from minswin import no_grad, ops
    from minswin.training.gpu import Captured
    from minswin.training.optimizers import SGD
    from minswin.training.precision import LossScale, computing

    model = our_model(setup, np.random.default_rng(0)).to("gpu").train()
    images, labels = (to_device(x, "gpu") for x in data(setup))
    optimizer = SGD(model.named_parameters(), 0.01, momentum=0.9)
    said: list[str] = []
    scale = LossScale(next(model.parameters()).data) if precision == "float16" else None

    def differentiate(x: Any, targets: Any) -> Any:
        model.zero_grad()
        with computing(precision, "gpu"):
            loss = ops.cross_entropy(model(x), targets)
            loss.backward(None if scale is None else scale.array)
        if scale is not None:
            scale.undo(model.parameters())
        return loss.data

    def infer(x: Any) -> Any:
        with no_grad(), computing(precision, "gpu"):
            return model(x).data

    both, forward = (Captured(f, model, said.append) for f in (differentiate, infer))
    wait = cupy().cuda.get_current_stream()

    def step() -> None:
        both(images, labels)
        optimizer.step()

    works = (lambda: forward(images), lambda: both(images, labels), step)
    laps = [timed(work, wait.synchronize) for work in works]
    return Lap("minswin", setup, precision, *parts(*laps), why="; ".join(said))


def torch_lap(setup: Setup, precision: str, compiled: bool) -> Lap:
    """PyTorch running transformers' model of the same shape."""
    import torch

    works = torch_works(setup, precision, compile_with={} if compiled else None)
    laps = [timed(work, torch.cuda.synchronize) for work in works]
    who = "PyTorch compiled" if compiled else "PyTorch eager"
    return Lap(who, setup, precision, *parts(*laps))


def torch_works(
    setup: Setup,
    precision: str,
    *,
    fused: bool = False,
    compile_with: dict[str, Any] | None = None,
    device: str = "cuda",
) -> tuple[Callable[[], object], ...]:
    """What PyTorch is timed at: forward, forward and backward, and a step of SGD.

    fused: attention is scaled_dot_product_attention   compile_with: settings of torch.compile
    float16, whose loss is scaled, and bfloat16 are autocast.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    model = of_transformers(setup, fused=fused).to(device).train()
    run: Any = model if compile_with is None else torch.compile(model, **compile_with)
    images, labels = (torch.from_numpy(x).to(device) for x in data(setup))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    short = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision)
    scaler = torch.amp.GradScaler(device, enabled=precision == "float16")

    def loss() -> Any:
        with torch.autocast(device, short, enabled=short is not None):
            return torch.nn.functional.cross_entropy(run(images).logits, labels)

    def forward() -> None:
        with torch.no_grad():
            loss()

    def both() -> None:
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss()).backward()

    def step() -> None:
        both()
        scaler.step(optimizer)
        scaler.update()

    return forward, both, step


def parts(forward: Spread, both: Spread, step: Spread) -> tuple[Spread, Spread, Spread]:
    """Backward is what forward leaves of both."""
    backward = Spread(*(max(0.0, b - f) for b, f in zip(both, forward, strict=True)))
    return forward, backward, step


# ── all of it ────────────────────────────────────────────────────────────────────────────────────


def run(out: str | None, *, tell: Callable[[str], None], show: Callable[[str], None]) -> None:
    """Measure, print a table for each model and batch, write the figures to `out`."""
    if out:
        require_replaceable(out, who="bench")
    with ExitStack() as stack:
        stack.enter_context(working_on("gpu"))
        found = machine()
        found["gpu"] = cupy().cuda.runtime.getDeviceProperties(0)["name"].decode()
        tell(f"{found['gpu']}; {machine_line(found)}")
        limits, results = ceilings(), []
        for setup in SETUPS:
            laps = [_lap(who, setup, precision) for precision in PRECISIONS for who in WHO]
            work = work_of(setup)
            results.append({"work": work, "laps": laps})
            show(table(setup, work, laps, limits))
    if out:
        save_json({"machine": found, "ceilings": limits, "results": results}, Path(out))


WHO: dict[str, Callable[[Setup, str], Lap]] = {
    "minswin": ours,
    "PyTorch eager": lambda setup, precision: torch_lap(setup, precision, False),
    "PyTorch compiled": lambda setup, precision: torch_lap(setup, precision, True),
}


def _lap(who: str, setup: Setup, precision: str) -> Lap:
    try:
        return WHO[who](setup, precision)
    except Exception as error:  # the others go on
        return Lap(who, setup, precision, why=f"{type(error).__name__}: {error}")


def work_of(setup: Setup) -> Work:
    from minswin.models.blank import BLANK

    model = our_model(setup, BLANK)
    return Work(setup.batch * model.flops(), model.parameter_count())


def table(setup: Setup, work: Work, laps: Sequence[Lap], limits: Ceilings) -> str:
    """Times of all contenders; × is the step as a multiple of its floor."""
    rows: list[tuple[str, ...]] = [
        ("precision", "contender", "forward", "backward", "step", "×", "images/s")
    ]
    for lap in laps:
        least = floor(work, limits, lap.precision)
        if lap.forward is None or lap.backward is None or lap.step is None:
            rows.append((lap.precision, lap.who, *["·"] * 5))
            continue
        times = tuple(duration(t) for t in (lap.forward, lap.backward, lap.step))
        over = f"{lap.step.median / least['step']:.1f}"
        speed = f"{setup.batch / lap.step.median:,.0f}"
        rows.append((lap.precision, lap.who, *times, over, speed))
    lines = [f"{setup.model}, batch {setup.batch}, {setup.img_size}×{setup.img_size}", ""]
    lines += [columns(rows), "", f"copies {limits.copies / 1e9:,.0f} GB/s; products " + ", ".join(
        f"{p} {rate / 1e12:,.1f} TF/s" for p, rate in limits.products.items()
    )]  # fmt: skip
    lines += [f"{lap.who}, {lap.precision}: {lap.why}" for lap in laps if lap.why]
    return "\n".join(lines)

"""Steps at the sizes of the race, for on_device.py: whether they are right, and how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from on_device import ON_HOST


def answer(**row: object) -> None:
    print("ANSWER " + json.dumps(row, default=str), flush=True)


def setup_of(model: str, batch: str) -> Any:
    from minswin.bench.setups import Setup

    side, classes = (224, 1000) if model == "swin_tiny" else (32, 10)
    return Setup(model, int(batch), side, classes)


def steps(model: str, batch: str) -> None:
    """Loss and gradients of the size of the race: replayed against plain, to the bit; and of eight
    images on the GPU against the CPU, as the largest error over the largest number of a gradient.
    """
    from minswin import ops
    from minswin.bench.setups import data, our_model
    from minswin.devices import to_device, working_on
    from minswin.training.gpu import WARM_UP, Captured

    setup, said = setup_of(model, batch), []
    nets = {where: our_model(setup, np.random.default_rng(0)).train() for where in ("cpu", "gpu")}

    def differentiate(net: Any, x: Any, targets: Any) -> Any:
        net.zero_grad()
        loss = ops.cross_entropy(net(x), targets)
        loss.backward()
        return loss.data

    def numbers(net: Any, loss: Any) -> list[np.ndarray]:
        found = (loss, *(p.grad for p in net.parameters()))
        return [x if isinstance(x, np.ndarray) else x.get() for x in found]

    def largest(ours: list[np.ndarray], truth: list[np.ndarray]) -> float:
        pairs = zip(ours, truth, strict=True)
        return max(float(abs(a - b).max() / (abs(b).max() + 1e-30)) for a, b in pairs)

    with working_on("gpu"):
        net, arrays = nets["gpu"].to("gpu"), [to_device(x, "gpu") for x in data(setup)]
        plain = numbers(net, differentiate(net, *arrays))
        step = Captured(lambda *a: differentiate(net, *a), net, said.append)
        replayed = [numbers(net, step(*arrays)) for _ in range(WARM_UP + 3)][-1]
        same = all(map(np.array_equal, plain, replayed))
        answer(model=model, batch=batch, equal=same, off=largest(replayed, plain), why=said)
        few = [x[:8] for x in data(setup)]
        there = numbers(net, differentiate(net, *(to_device(x, "gpu") for x in few)))
    here = numbers(nets["cpu"], differentiate(nets["cpu"], *few))
    answer(model=model, loss=float(there[0]), off_the_cpu=largest(there, here))


def lap(model: str, batch: str, who: str, *precisions: str) -> None:
    """An answer for each precision, at once, so that a later one takes none of them away."""
    for precision in precisions:
        work = _our_lap if who == "minswin" else _torch_lap
        try:
            row = work(setup_of(model, batch), precision, who)
        except Exception as error:  # of CuPy, PyTorch or CUDA: the next may run
            row = {"why": f"{type(error).__name__}: {error}"[:300]}
        answer(model=model, batch=batch, who=who, precision=precision, **row)


def _our_lap(setup: Any, precision: str, who: str) -> dict[str, Any]:
    from minswin.bench import gpu
    from minswin.devices import working_on

    with working_on("gpu"), _computing_nothing_on_the_cpu():
        row = gpu.ours(setup, precision)
    parts = ("forward", "backward", "step")
    return {part: _ms(getattr(row, part)) for part in parts} | {"why": row.why}


def _ms(times: Any) -> float:
    return round(times.median * 1e3, 3)


def _torch_lap(setup: Any, precision: str, who: str) -> dict[str, Any]:
    """PyTorch's times. Compiled: of a step alone, which is compiled once."""
    import torch

    from minswin.bench import gpu

    there, wait, often, how = "cuda", torch.cuda.synchronize, {"calls": 8, "rounds": 3}, {}
    if ON_HOST:
        there, wait, often = "cpu", int, {"warm_up": 0, "calls": 1, "rounds": 1}
        how = {"backend": "aot_eager"}
    compile_with = how if who == "compiled" else None
    works = gpu.torch_works(
        setup, precision, fused=who == "sdpa", compile_with=compile_with, device=there
    )
    if who == "compiled":
        return {"step": _ms(gpu.timed(works[-1], wait, **often))}
    parts = gpu.parts(*(gpu.timed(work, wait, **often) for work in works))
    return dict(zip(("forward", "backward", "step"), map(_ms, parts), strict=True))


@contextmanager
def _computing_nothing_on_the_cpu() -> Iterator[None]:
    if not ON_HOST:
        yield
        return
    import host_cuda

    with host_cuda.counted(computing=False) as counts:
        yield
    answer(asked=dict(counts))

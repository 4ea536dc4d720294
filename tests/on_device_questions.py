"""What on_device.py asks of a GPU beside the tests; each answer is a printed line of JSON.

environment                          versions, and the rates of copies, products and sums
capture                              which operations of CuPy's a stream can record
steps MODEL BATCH                    whether a replayed step equals a plain one, and the CPU's
lap MODEL BATCH WHO PRECISION …      milliseconds of a step of ours, eager, sdpa or compiled
profile MODEL BATCH                  the kernels of a step of ours that take longest
train …                              `minswin train …`

With MINSWIN_HOST_CUDA=1 they are tried where there is no GPU: CuPy on the CPU (host_cuda), where a
lap computes nothing, training has a few images, and PyTorch is on the CPU, compiled without code of
its own; their times say nothing then.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from on_device import ON_HOST
from on_device_race import answer, lap, steps


def environment() -> None:
    names = ("numpy", "cupy", "numba", "torch", "transformers", "timm", "safetensors", "pytest")
    for name in names:
        try:
            answer(module=name, version=importlib.import_module(name).__version__)
        except Exception as error:  # whatever a broken package does
            answer(module=name, error=f"{type(error).__name__}: {error}"[:200])
    print(subprocess.run("nvidia-smi || true", shell=True, capture_output=True, text=True).stdout)
    from minswin.devices import cupy

    library = cupy()
    found = library.cuda.runtime.getDeviceProperties(0)["name"].decode()
    answer(cpus=os.cpu_count(), gpu=found, accelerators=library._core.get_routine_accelerators())
    side = int(os.environ.get("MINSWIN_ON_DEVICE_SIDE", "8192"))
    x = library.asarray(np.random.default_rng(0).standard_normal((side, side), np.float32))
    y, half = library.empty_like(x), x.astype(np.float16)
    tall = x.reshape(-1, 64)
    for what, amount, work in (
        ("copy GB/s", 2 * x.nbytes / 1e9, lambda: library.copyto(y, x)),
        ("float32 TF/s", 2 * side**3 / 1e12, lambda: x @ x),
        ("float16 TF/s", 2 * side**3 / 1e12, lambda: half @ half),
        ("sum(axis=0) GB/s", tall.nbytes / 1e9, lambda: tall.sum(axis=0)),
    ):
        seconds = _seconds(library, work)
        answer(what=what, value=round(amount / seconds, 1), ms=round(seconds * 1e3, 3))


def _seconds(library: Any, work: Callable[[], object], calls: int = 10) -> float:
    """Of one call, by the GPU's own clock."""
    start, stop = library.cuda.Event(), library.cuda.Event()
    work()
    start.record()
    for _ in range(calls):
        work()
    stop.record()
    stop.synchronize()
    return library.cuda.get_elapsed_time(start, stop) / 1e3 / calls


def capture() -> None:
    import minswin.kernels.gpu  # noqa: F401
    from minswin.devices import cupy
    from minswin.kernels.gpu.products import product
    from minswin.kernels.gpu.products_with_bias import _plans, product_plus

    library = cupy()
    a, x = library.ones((64, 32), np.float32), library.ones((2, 3, 8, 8), np.float32)
    rows = library.asarray(np.zeros(9, np.int64))
    tries = {
        "our product": lambda: product(a, a.T), "CuPy's product": lambda: a @ a.T,
        "our product and a bias": lambda: product_plus(a, a.T, a.reshape(-1)[:64]),
        "vdot": lambda: library.vdot(a, a), "sum": lambda: a.sum(),
        "sum of rows": lambda: a.sum(axis=0), "mean": lambda: x.mean((2, 3)),
        "argmax": lambda: a.argmax(1), "take": lambda: a[rows], "pad": lambda: library.pad(a, 1),
        "add.at": lambda: library.add.at(a, rows, 1), "zeros": lambda: library.zeros(9),
        "copy from the CPU": lambda: library.asarray(np.ones(3)),
    }  # fmt: skip
    for name, work in tries.items():
        answer(capture=name, error=_refused(library, work))
    answer(bias_in_the_product=all(_plans.of.values()) and len(_plans.of) > 0)


def _refused(library: Any, work: Callable[[], object]) -> str:
    """Why a stream cannot record this; empty where it can, and replays it."""
    with library.cuda.Stream(non_blocking=True) as stream:
        why = ""
        work()
        stream.synchronize()
        stream.begin_capture()
        try:
            with library.cuda.using_allocator(library.cuda.MemoryPool().malloc):
                work()
        except Exception as error:  # of CUDA, cuBLAS, CuPy: each has its own
            why = f"{type(error).__name__}: {error}"[:200]
        try:
            stream.end_capture().launch(stream)
            stream.synchronize()
        except Exception as error:
            why += f" / at the end: {type(error).__name__}: {error}"[:200]
    return why


def profile(model: str, batch: str) -> None:
    """PyTorch's profiler sees every kernel of the process, so CuPy's too."""
    if ON_HOST:
        answer(skipped="this needs PyTorch with CUDA, and a GPU")
        return
    import torch

    from minswin import create_model, ops
    from minswin.devices import to_device, working_on
    from minswin.training import AdamW
    from minswin.training.fit import backward
    from minswin.training.precision import computing

    rng = np.random.default_rng(0)
    with working_on("gpu"):
        net = create_model(model, rng=rng).to("gpu").train()
        images = rng.standard_normal((int(batch), 3, *net.img_size)).astype(np.float32)
        x, targets = (to_device(a, "gpu") for a in (images, rng.integers(0, 10, int(batch))))
        optimizer = AdamW(net.named_parameters(), 1e-3)

        def steps() -> None:
            for _ in range(3):
                with computing("tf32", "gpu"):
                    backward(net, ops.cross_entropy(net(x), targets), 1.0)
                optimizer.step()
            torch.cuda.synchronize()

        steps()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            steps()
    rows = sorted(seen.key_averages(), key=lambda event: -event.device_time_total)
    answer(model=model, kernels=sum(e.count for e in rows) / 3,
           gpu_ms=round(sum(e.device_time_total for e in rows) / 3e3, 3))  # fmt: skip
    for event in rows[:25]:
        ms = round(event.device_time_total / 3e3, 4)
        answer(kernel=event.key[:80], ms=ms, count=event.count / 3)


def train(*options: str) -> None:
    from minswin.cli import main

    if ON_HOST and "cifar10" in options:
        options = _few_images(list(options))
    sys.exit(main(["train", *options]))


def _few_images(options: list[str], count: int = 16) -> tuple[str, ...]:
    """The first images of each file of CIFAR-10, in a folder of their own."""
    from minswin.data.cifar import LAYOUTS

    layout, at = LAYOUTS["cifar10"], options.index("--data-dir") + 1
    source = Path(options[at]) / layout.folder
    options[at] = tempfile.mkdtemp()
    layout.records.update(train=count, test=count)
    for file in (layout.meta, *layout.files["train"], *layout.files["test"]):
        some = None if file == layout.meta else count * (1 + 3 * 32 * 32)
        (Path(options[at]) / file).write_bytes((source / file).read_bytes()[:some])
    return (*options, "--holdout", str(count))


QUESTIONS = {
    "environment": environment, "capture": capture, "steps": steps, "lap": lap, "profile": profile,
    "train": train,
}  # fmt: skip

if __name__ == "__main__":
    if ON_HOST:
        import host_cuda

        with suppress(host_cuda.Missing):  # PyTorch's laps need no CuPy
            host_cuda.enter()
    QUESTIONS[sys.argv[1]](*sys.argv[2:])

"""What the ranks of a run must have in common: before its first step, and at every checkpoint."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from minswin.arrays import Array, to_numpy
from minswin.distributed import Group
from minswin.parallel import cores
from minswin.training.inputs import Images
from minswin.training.run import Run
from minswin.training.settings import Settings
from minswin.version import VERSION

# Where something is on a machine, and how many threads work: each rank may have its own.
OF_A_MACHINE = ("data", "data_dir", "download", "teacher", "weights", "out", "threads", "workers")


def require_same_start(group: Group, settings: Settings) -> None:
    """Raise ValueError unless all ranks have the same settings and versions, and enough to do."""
    if group.size == 1:
        return
    chosen = {k: v for k, v in asdict(settings).items() if k not in OF_A_MACHINE}
    chosen["weights"] = settings.weights is not None
    chosen["data"] = os.path.basename(os.path.abspath(settings.data))  # require_same_run sees more
    versions = {
        "minswin": VERSION, "numpy": np.__version__, "python": platform.python_version(),
        "processor": platform.machine(),
    }  # fmt: skip
    _require_same(group, {**chosen, **versions})
    if settings.batch_size < group.size:
        raise ValueError(
            f"train: {group.size} ranks share a batch of {settings.batch_size} images; start "
            f"{settings.batch_size} ranks at most, or choose a larger --batch-size"
        )
    each = group.gather(cores())
    if group.leads and len(set(each)) > 1:
        counts = ", ".join(map(str, each))
        print(
            f"minswin: warning: the ranks have {counts} cores; all wait for the slowest. Their "
            "shares of a batch are equal, so give them equal cores",
            file=sys.stderr,
        )


def require_same_run(run: Run) -> None:
    """Give all ranks the weights of rank 0. Raise ValueError unless they have the same images."""
    if run.group.size == 1:
        return
    sets = {"training": run.train_set, "held-out": run.held_out, "test": run.test_set}
    found = {f"the {name} images": _check_sum(images) for name, images in sets.items()}
    found["kernels"] = run.backend
    found["teacher"] = str(run.teaching.described) if run.teaching else ""
    _require_same(run.group, found)
    for _, array in _arrays(run):
        array[...] = run.group.broadcast(array.copy(order="C"))
    run.model.rng.bit_generator.state = run.group.lead(lambda: run.model.rng.bit_generator.state)


def require_same_weights(run: Run) -> None:
    """Raise ValueError unless weights, optimizer, average and random state have the same bits."""
    if run.group.size == 1:
        return
    digests = {name: _digest(array) for name, array in _arrays(run)}
    digests["random state"] = repr(run.model.rng.bit_generator.state)
    whole = hashlib.blake2b(repr(digests).encode(), digest_size=16).hexdigest()
    if len(set(run.group.gather(whole))) == 1:
        return
    each = run.group.gather(digests)
    rank, name = next(
        (rank, name)
        for rank, other in enumerate(each)
        for name, digest in each[0].items()
        if other[name] != digest
    )
    raise ValueError(
        f"train: after step {run.step} '{name}' of rank {rank} has other bits than that of rank 0; "
        "not saved. A machine computes otherwise, or its memory is damaged: use equal machines, "
        f"and go on with --resume {run.settings.folder}"
    )


def _require_same(group: Group, found: Mapping[str, Any]) -> None:
    each = group.gather(dict(found))
    for rank, other in enumerate(each):
        for name, value in each[0].items():
            if other[name] != value:
                raise ValueError(
                    f"train: rank {rank} has {name} {other[name]!r}, and rank 0 has {value!r}; "
                    "start all ranks with the same settings, files and versions"
                )


def _arrays(run: Run) -> Iterator[tuple[str, Array]]:
    """All that an update changes, by name."""
    parts = {"weights": run.model, "optimizer": run.optimizer, "average": run.average}
    for kind, part in parts.items():
        if part is not None:
            yield from ((f"{kind}/{name}", array) for name, array in part.state_dict().items())


def _digest(array: Array) -> str:
    data = np.ascontiguousarray(to_numpy(array))
    return hashlib.blake2b(data.view(np.uint8).data, digest_size=16).hexdigest()


def _check_sum(images: Images | None) -> str:
    if images is None:
        return "none"
    total = 0
    for array in (images.images, images.labels):
        total = zlib.crc32(np.ascontiguousarray(array).data, total)
    return f"{len(images)} with check sum {total:08x}"

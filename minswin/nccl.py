"""A group of ranks that have a GPU each: NCCL adds arrays of GPUs, MPI does all else.

NVIDIA, *NCCL User Guide*, "Collective Operations".
"""

from __future__ import annotations

import os

import numpy as np

from minswin.arrays import Array
from minswin.devices import cupy
from minswin.distributed import MPIGroup


class NCCLGroup(MPIGroup):
    """The same with a GPU for each rank: arrays of CuPy go from GPU to GPU, all else by MPI.

    The calls are put on the current stream, and nothing waits for them.
    """

    def __init__(self, device: str = "gpu") -> None:
        super().__init__()
        _see_one_gpu(self.rank_here)
        nccl = self._nccl = cupy(device).cuda.nccl
        self._types = {
            "e": nccl.NCCL_FLOAT16, "f": nccl.NCCL_FLOAT32, "d": nccl.NCCL_FLOAT64,
            "i": nccl.NCCL_INT32, "l": nccl.NCCL_INT64, "B": nccl.NCCL_UINT8,
        }  # fmt: skip
        name = self.lead(nccl.get_unique_id)
        self._gpus = nccl.NcclCommunicator(self.size, name, self.rank)

    def all_reduce(self, array: Array) -> Array:
        if isinstance(array, np.ndarray):
            return super().all_reduce(array)
        at, how = array.data.ptr, self._how(array)
        self._gpus.allReduce(at, at, array.size, how[0], self._nccl.NCCL_SUM, how[1])
        return array

    def broadcast(self, array: Array) -> Array:
        if isinstance(array, np.ndarray):
            return super().broadcast(array)
        kind, stream = self._how(array)
        self._gpus.bcast(array.data.ptr, array.size, kind, 0, stream)
        return array

    def all_gather(self, array: Array) -> Array:
        if isinstance(array, np.ndarray):
            return super().all_gather(array)
        whole = cupy().empty((self.size, *array.shape), array.dtype)
        kind, stream = self._how(array)
        self._gpus.allGather(array.data.ptr, whole.data.ptr, array.size, kind, stream)
        return whole

    def _how(self, array: Array) -> tuple[int, int]:
        """The type of an array as NCCL counts it, and the current stream."""
        return self._types[array.dtype.char], cupy().cuda.get_current_stream().ptr


def _see_one_gpu(number: int) -> None:
    """Leave this process one GPU of its machine, "gpu", before CUDA looks for them.

    A launcher that has given each rank a single one is left alone.
    """
    name = "CUDA_VISIBLE_DEVICES"
    given = os.environ.get(name, "").split(",")
    if given == [""]:
        os.environ[name] = str(number)
    elif len(given) > 1:
        os.environ[name] = given[number % len(given)]

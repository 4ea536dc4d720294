"""The five calls of NCCL that minswin makes, for the stand-in of CuPy: memory is here, MPI adds."""

from __future__ import annotations

import ctypes
import types

import numpy as np
import standin

TYPES = {
    name: number
    for number, name in enumerate(("uint8", "int32", "int64", "float16", "float32", "float64"))
}


def _array(pointer, count, kind):
    """The memory that a pointer names."""
    dtype = np.dtype(list(TYPES)[kind])
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memory, dtype)


class NcclCommunicator:
    """Calls are made on a stream: what it was asked for before is done first."""

    def __init__(self, size, name, rank):
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD.Dup()
        assert (size, rank) == (self._comm.size, self._comm.rank)
        assert name == tuple(range(3)), "all ranks need the name that rank 0 was given"

    def allReduce(self, source, target, count, kind, how, stream):
        assert how == 0 and stream == standin.Stream.current.ptr
        standin.Stream.current.synchronize()
        mine = _array(source, count, kind).copy()
        _array(target, count, kind)[:] = sum(self._comm.allgather(mine))

    def bcast(self, pointer, count, kind, root, stream):
        assert stream == standin.Stream.current.ptr
        standin.Stream.current.synchronize()
        here = _array(pointer, count, kind)
        here[:] = self._comm.bcast(here, root)

    def allGather(self, source, target, count, kind, stream):
        assert stream == standin.Stream.current.ptr
        standin.Stream.current.synchronize()
        each = self._comm.allgather(_array(source, count, kind))
        _array(target, count * len(each), kind)[:] = np.concatenate(each)


def use(monkeypatch):
    """The stand-in as the module "cupy", with NCCL."""
    cupy = standin.use(monkeypatch)
    cupy.cuda.nccl = types.SimpleNamespace(
        NcclCommunicator=NcclCommunicator,
        get_unique_id=lambda: tuple(range(3)),
        NCCL_SUM=0,
        **{f"NCCL_{name.upper()}": number for name, number in TYPES.items()},
    )
    return cupy

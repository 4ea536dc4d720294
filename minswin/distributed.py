"""Several processes as one group: MPI carries arrays of NumPy, NCCL those of GPUs.

`mpiexec -n 4 python program.py` runs four copies of a program, the ranks 0…3, on one machine or
many. `world()` gives each its place in the group; a process that was started alone gets a group of
one, which needs neither library. A collective is called by all ranks, in the same order.

    group = world()
    total = group.all_reduce(np.array([1.0]))       # [4.0] on every rank

MPI Forum 2021, *MPI: A Message-Passing Interface Standard*, version 4.0, chapter 6.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any, NamedTuple, TextIO

import numpy as np

from minswin.arrays import Array

__all__ = ["Group", "Share", "as_one", "world"]

CHOICES = ("auto", "mpi", "nccl", "off")
# Where a process finds its rank and how many there are: those of MPICH and its kin, of Open MPI,
# and of Slurm's srun. mpiexec may itself be started by srun, so that is asked last.
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
PATIENCE = 5.0  # seconds that a failed rank waits for the others, in case they failed as well
# What users can do something about: said in a line, without the places in the code.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError, ArithmeticError)
INSTALL = 'pip install "minswin[mpi]"'


class Share(NamedTuple):
    """Which samples of a batch a rank takes, and how much they count in its mean.

    A rank for which a short batch has no sample computes the first one, and it counts nothing: so
    all ranks do the same steps and draw the same random numbers.
    """

    start: int
    end: int
    batch: int  # samples of the whole
    weight: float  # of the mean over the share in the mean over the batch

    @property
    def rows(self) -> slice:
        return slice(self.start, self.end)


class Group:
    """A group of one, and what all groups can do. Arrays must be contiguous."""

    rank, size = 0, 1
    ranks_here = 1  # ranks on this machine
    rank_here = 0

    @property
    def leads(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0

    def share(self, batch: int) -> Share:
        """The samples of a batch that this rank takes: parts in order, as equal as can be.

        >>> Group().share(7)
        Share(start=0, end=7, batch=7, weight=1.0)
        """
        start, end = self.rank * batch // self.size, (self.rank + 1) * batch // self.size
        if start == end:
            return Share(0, min(1, batch), batch, 0.0)
        return Share(start, end, batch, (end - start) / batch)

    # ── collectives ──────────────────────────────────────────────────────────────────────────────

    def all_reduce(self, array: Array) -> Array:
        """Replace an array by its sum over the ranks, the same bits on each; gives the array."""
        return array

    def sum_now(self, array: Array) -> Array:
        """all_reduce of an array of NumPy, in what `later` does."""
        return array

    def broadcast(self, array: Array) -> Array:
        """Replace an array by that of rank 0; gives the array."""
        return array

    def all_gather(self, array: Array) -> Array:
        """The arrays of all ranks, of one shape: (size, …)."""
        return array[None].copy()

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def gather(self, value: Any) -> list[Any]:
        """What each rank has: any Python values, in the order of the ranks."""
        return [value]

    def lead(self, work: Callable[[], Any]) -> Any:
        """What work() gives rank 0, which alone does it; its error is raised in all ranks."""
        return work()

    def later(self, work: Callable[[], Any]) -> Future[Any]:
        """Begin work with collectives in it, in the order of the calls; others come after it."""
        done: Future[Any] = Future()
        done.set_result(work())
        return done

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────

    def all_failed(self, patience: float = PATIENCE) -> bool:
        """After an error: whether all ranks have one, so that each can end by itself."""
        return True

    def abort(self, status: int) -> None:
        """End all ranks now, this one included."""
        sys.exit(status)


class MPIGroup(Group):
    """The processes that mpiexec or srun has started.

    One thread makes all calls of MPI, in the order in which they are asked for. So the buckets of
    gradients travel while backward computes, and Python handles signals while a call waits.
    """

    def __init__(self) -> None:
        mpi = self._mpi = load_mpi()
        if mpi.Query_thread() < mpi.THREAD_MULTIPLE:
            raise OSError(
                f"distributed: {_library(mpi)} lets no second thread call it; use a build with "
                "MPI_THREAD_MULTIPLE, as those of PyPI, conda and Debian are"
            )
        self._comm, self._last = mpi.COMM_WORLD.Dup(), mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        _require_same_launcher(mpi, self.size)
        here = self._comm.Split_type(mpi.COMM_TYPE_SHARED)
        self.rank_here, self.ranks_here = here.Get_rank(), here.Get_size()
        here.Free()
        self._caller = ThreadPoolExecutor(1, "minswin-mpi")

    def later(self, work: Callable[[], Any]) -> Future[Any]:
        return self._caller.submit(work)

    def all_reduce(self, array: Array) -> Array:
        return self._call(lambda: self.sum_now(array))

    def sum_now(self, array: Array) -> Array:
        self._comm.Allreduce(self._mpi.IN_PLACE, array)
        return array

    def broadcast(self, array: Array) -> Array:
        self._call(lambda: self._comm.Bcast(array))
        return array

    def all_gather(self, array: Array) -> Array:
        whole = np.empty((self.size, *array.shape), array.dtype)
        self._call(lambda: self._comm.Allgather(array, whole))
        return whole

    def barrier(self) -> None:
        self._call(self._comm.Barrier)

    def gather(self, value: Any) -> list[Any]:
        return list(self._call(lambda: self._comm.allgather(value)))

    def lead(self, work: Callable[[], Any]) -> Any:
        answer: tuple[Any, Exception | None] = (None, None)
        if self.leads:
            try:
                answer = work(), None
            except Exception as error:
                answer = None, error
        value, failure = self._call(lambda: self._comm.bcast(answer))
        if failure is not None:
            raise failure
        return value

    def _call(self, work: Callable[[], Any]) -> Any:
        return self._caller.submit(work).result()

    def all_failed(self, patience: float = PATIENCE) -> bool:
        meeting, until = self._last.Ibarrier(), time.monotonic() + patience
        while not meeting.Test():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def abort(self, status: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            _wait_until_read(stream)
        self._mpi.COMM_WORLD.Abort(status)


# ── speaking and ending as one ───────────────────────────────────────────────────────────────────


def _wait_until_read(stream: TextIO, patience: float = PATIENCE) -> None:
    """Wait until a pipe is empty: mpiexec forgets what it has not read yet when a rank aborts."""
    try:
        import fcntl
        import termios

        if not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            return
    except (ImportError, OSError):  # Windows; a stream without a file
        return
    unread, until = bytearray(b"some"), time.monotonic() + patience
    while any(unread) and time.monotonic() < until:
        time.sleep(0.001)
        fcntl.ioctl(stream, termios.FIONREAD, unread)  # how many bytes, as an int of C


@contextmanager
def as_one(group: Group) -> Iterator[None]:
    """Inside this block rank 0 alone prints, and an error in any rank ends all of them.

    An error that all ranks have is raised by rank 0 alone; one that a rank has for itself is
    printed by it, and it ends the others, which may be waiting for it for ever.
    """
    try:
        with _silence() if not group.leads else nullcontext():
            yield
    except BaseException as error:
        together = group.all_failed()
        if together and group.leads:
            raise
        if not together:
            text = "".join(traceback.format_exception(error))
            if isinstance(error, EXPECTED):
                text = " ".join(str(error).split()) + "\n"
            sys.stderr.write(f"minswin: error: rank {group.rank} of {group.size}: {text}")
            group.abort(2)
        raise SystemExit(2) from None


@contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


# ── which group this process belongs to ──────────────────────────────────────────────────────────


def world(choice: str = "auto", device: str = "cpu") -> Group:
    """The group of all processes that were started together with this one.

    choice: "mpi", "nccl", "off", or "auto": NCCL for a device that is a GPU and MPI for the CPU
    where the environment says that there are several processes; else a group of one
    Raises ImportError where mpi4py is missing, OSError where the launcher is not that of its MPI.
    """
    if choice not in CHOICES:
        raise ValueError(f"distributed must be one of {', '.join(CHOICES)}, got {choice!r}")
    if choice == "nccl" and device == "cpu":
        raise ValueError("distributed 'nccl' is for GPUs, and the device is 'cpu'; choose 'mpi'")
    if choice == "mpi" and device != "cpu":
        raise ValueError(f"distributed 'mpi' is for the CPU, the device is {device!r}; use 'nccl'")
    if choice == "off" or (choice == "auto" and launched() == 1):
        return Group()
    if device == "cpu":
        return MPIGroup()
    from minswin.nccl import NCCLGroup

    return NCCLGroup(device)


def launched() -> int:
    """How many processes the launcher of this one has started, by its environment; else 1."""
    for rank, size in LAUNCHERS:
        if rank in os.environ and os.environ.get(size, "").isdecimal():
            return int(os.environ[size])
    return 1


def load_mpi() -> Any:
    """mpi4py's module MPI, which begins MPI in this process."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: no library of MPI
        raise ImportError(
            f"distributed: MPI cannot be loaded ({error}); {INSTALL}, or start one process, "
            "or choose --distributed off"
        ) from error
    return MPI


def _require_same_launcher(mpi: Any, size: int) -> None:
    if launched() > 1 and size == 1:
        raise OSError(
            f"distributed: the launcher started {launched()} processes, but {_library(mpi)} in "
            f"{sys.prefix} sees one: they are of different MPIs. Start with the mpiexec that "
            f"belongs to it ({os.path.join(sys.prefix, 'bin', 'mpiexec')}, say), or with "
            "srun --mpi=pmi2"
        )


def _library(mpi: Any) -> str:
    return " ".join(mpi.Get_library_version().split()[:3])

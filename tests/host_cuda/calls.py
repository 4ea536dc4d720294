"""What CuPy calls of CUDA: each method has the name of CuPy's function and takes its arguments.

All work is done at once, in the order in which it is asked for. A capture keeps it instead, and
launching the graph does it again.
"""

from __future__ import annotations

import ctypes
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from host_cuda.kernels import Kernels
from host_cuda.memory import Memory

VERSION = 13000
SHARED_BYTES, SHARED_ON_REQUEST = 48 * 1024, 227 * 1024
NOT_SUPPORTED_IN_CAPTURE = 900  # cudaErrorStreamCaptureUnsupported
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
PROPERTIES = {
    "name": b"the CPU, as a CUDA device", "major": 9, "minor": 0, "multiProcessorCount": 132,
    "warpSize": 32, "maxThreadsPerBlock": 1024, "sharedMemPerBlock": SHARED_BYTES,
    "totalGlobalMem": 1 << 37,
}  # fmt: skip
ATTRIBUTES = {  # of cudaDeviceAttr, those of an H200
    1: 1024, 2: 1024, 3: 1024, 4: 64, 5: 2**31 - 1, 6: 65535, 7: 65535, 8: SHARED_BYTES, 10: 32,
    12: 65536, 16: 132, 39: 2048, 75: 9, 76: 0, 81: 233472, 82: 65536, 97: SHARED_ON_REQUEST,
}  # fmt: skip
DYNAMIC_SHARED = 8  # the function attribute CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Refused(RuntimeError):
    """What CUDA's driver would refuse; CuPy's own kind of error asks the driver for its name."""


class Calls:
    """CUDA's state: memory, kernels, the capture that is under way, the graphs."""

    def __init__(self, runtime: Any, kernels: Kernels) -> None:
        self.runtime, self.kernels = runtime, kernels
        self.memory, self.pinned = Memory(), Memory()
        self.handles = itertools.count(0x1000, 16)
        self.functions: dict[int, Any] = {}
        self.shared_limit: dict[int, int] = defaultdict(lambda: SHARED_BYTES)
        self.graphs: dict[int, list[tuple[str, Callable[[], object]]]] = {}
        self.capturing: int | None = None  # the stream
        self.jobs: list[tuple[str, Callable[[], object]]] = []
        self.counts: Counter[str] = Counter()
        self.started: list[str] = []  # the names of the kernels
        self.computing = True

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the CPU as a CUDA device has no {name}")

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def work(self, kind: str, stream: int, job: Callable[[], object]) -> None:
        """Do it, or keep it for the graph of the capture."""
        if self.capturing is not None and stream == self.capturing:
            self.jobs.append((kind, job))
            return
        self._do(kind, job)

    def _do(self, kind: str, job: Callable[[], object]) -> None:
        self.counts[kind] += 1
        if self.computing:
            job()

    def not_in_capture(self, what: str) -> None:
        if self.capturing is not None:
            self.counts[f"{what} in a capture"] += 1
            raise self.runtime.CUDARuntimeError(NOT_SUPPORTED_IN_CAPTURE)

    def wait(self) -> None:
        self.not_in_capture("wait")
        self.counts["wait"] += 1
        if self.computing:
            self.memory.check_all("a kernel")

    # ── the device ───────────────────────────────────────────────────────────────────────────────

    def getDeviceCount(self) -> int:
        return 1

    def getDevice(self) -> int:
        return 0

    def setDevice(self, number: int) -> None: ...

    def runtimeGetVersion(self) -> int:
        return VERSION

    driverGetVersion = runtimeGetVersion

    def _getCUDAMajorVersion(self) -> int:
        return VERSION // 1000

    def getDeviceProperties(self, number: int) -> dict[str, Any]:
        return defaultdict(int, PROPERTIES)

    def deviceGetAttribute(self, attribute: int, number: int) -> int:
        return ATTRIBUTES.get(attribute, 1)

    def deviceCanAccessPeer(self, one: int, other: int) -> int:
        return 0

    def _ensure_context(self) -> None: ...

    def deviceSynchronize(self) -> None:
        self.wait()

    def ctxGetCurrent(self) -> int:
        return 1

    def streamGetCtx(self, stream: int) -> int:
        return 1

    def ctxSetCurrent(self, context: int) -> None: ...

    # ── memory ───────────────────────────────────────────────────────────────────────────────────

    def malloc(self, size: int) -> int:
        self.counts["malloc"] += 1
        return self.memory.allocate(size)

    def mallocAsync(self, size: int, stream: int) -> int:
        return self.malloc(size)

    def free(self, address: int) -> None:
        self.memory.release(address)

    def freeAsync(self, address: int, stream: int) -> None:
        self.free(address)

    def hostAlloc(self, size: int, flags: int) -> int:
        return self.pinned.allocate(size)

    def freeHost(self, address: int) -> None:
        self.pinned.release(address)

    def memGetInfo(self) -> tuple[int, int]:
        return PROPERTIES["totalGlobalMem"] - self.memory.used, PROPERTIES["totalGlobalMem"]

    def pointerGetMemoryType(self, address: int) -> int:
        return 2  # cudaMemoryTypeDevice

    def memcpy(self, to: int, source: int, size: int, kind: int) -> None:
        self.not_in_capture("copy")
        self.memcpyAsync(to, source, size, kind, 0)

    def memcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        names = {HOST_TO_DEVICE: "copy from the host", DEVICE_TO_HOST: "copy to the host"}
        host = {HOST_TO_DEVICE: source, DEVICE_TO_HOST: to}.get(kind)
        if stream == self.capturing and host is not None and self.pinned.piece_of(host) is None:
            self.not_in_capture("copy of pageable memory")
        copy = lambda: ctypes.memmove(to, source, size)  # noqa: E731
        self.work(names.get(kind, "copy"), stream, copy)

    def memset(self, to: int, value: int, size: int) -> None:
        self.not_in_capture("memset")
        self.memsetAsync(to, value, size, 0)

    def memsetAsync(self, to: int, value: int, size: int, stream: int) -> None:
        self.work("memset", stream, lambda: ctypes.memset(to, value, size))

    # ── streams and events ───────────────────────────────────────────────────────────────────────

    def _handle(self, *_: int) -> int:
        return next(self.handles)

    eventCreate = eventCreateWithFlags = _handle
    streamCreate = streamCreateWithFlags = streamCreateWithPriority = _handle

    def _nothing(self, *_: int) -> None: ...

    eventDestroy = streamDestroy = streamWaitEvent = _nothing
    eventRecord = graphUpload = moduleUnload = _nothing

    def _done(self, *_: int) -> int:
        return 0  # cudaSuccess: all that was asked for is done

    eventQuery = streamQuery = _done

    def streamSynchronize(self, stream: int) -> None:
        self.wait()

    def eventSynchronize(self, event: int) -> None:
        self.wait()

    def eventElapsedTime(self, start: int, end: int) -> float:
        return 1.0  # milliseconds: speed is nothing that can be seen here

    def streamGetFlags(self, stream: int) -> int:
        return 1

    def streamGetPriority(self, stream: int) -> int:
        return 0

    # ── graphs ───────────────────────────────────────────────────────────────────────────────────

    def streamBeginCapture(self, stream: int) -> None:
        self.not_in_capture("capture")
        self.capturing, self.jobs = stream, []

    def streamIsCapturing(self, stream: int) -> int:
        return int(stream == self.capturing)

    def streamEndCapture(self, stream: int) -> int:
        if stream != self.capturing:
            raise Refused("cudaErrorIllegalState: this stream is not capturing")
        self.capturing = None
        graph = next(self.handles)
        self.graphs[graph], self.jobs = self.jobs, []
        return graph

    def graphInstantiate(self, graph: int) -> int:
        copy = next(self.handles)
        self.graphs[copy] = self.graphs[graph]
        return copy

    def graphLaunch(self, graph: int, stream: int) -> None:
        self.not_in_capture("graph")
        self.counts["graph"] += 1
        for kind, job in self.graphs[graph]:
            self._do(kind, job)

    def graphDestroy(self, graph: int) -> None:
        self.graphs.pop(graph, None)

    graphExecDestroy = graphDestroy

    # ── kernels ──────────────────────────────────────────────────────────────────────────────────

    def moduleLoadData(self, compiled: bytes) -> int:
        if self.capturing is not None:
            self.counts["module loaded in a capture"] += 1
        module = next(self.handles)
        self.kernels.loaded(module, bytes(compiled))
        return module

    def moduleGetFunction(self, module: int, name: str) -> int:
        function = next(self.handles)
        kernel = self.kernels.named(module, name)
        if kernel is None:
            raise Refused(f"CUDA_ERROR_NOT_FOUND: the kernel {name}")
        self.functions[function] = kernel
        return function

    def funcGetAttribute(self, attribute: int, function: int) -> int:
        return {0: 1024, 4: 32, DYNAMIC_SHARED: self.shared_limit[function]}.get(attribute, 0)

    def funcSetAttribute(self, function: int, attribute: int, value: int) -> None:
        if attribute == DYNAMIC_SHARED:
            if value > SHARED_ON_REQUEST:
                raise Refused(f"CUDA_ERROR_INVALID_VALUE: {value} bytes of shared memory")
            self.shared_limit[function] = value

    def occupancyMaxActiveBlocksPerMultiprocessor(self, f: int, threads: int, shared: int) -> int:
        return 8

    def launchKernel(self, function: int, *numbers: int) -> None:
        grid, block, (shared, stream, arguments, _) = numbers[:3], numbers[3:6], numbers[6:]
        kernel, threads = self.functions[function], block[0] * block[1] * block[2]
        fits = min(*grid, *block) > 0 and max(grid[1:]) <= 65535 and block[2] <= 64
        if not fits or threads > 1024 or shared > self.shared_limit[function]:
            raise Refused(
                f"CUDA_ERROR_INVALID_VALUE: {kernel.name}, grid {grid}, block {block}, "
                f"{shared} bytes of shared memory"
            )
        self.started.append(kernel.name)
        if not self.computing:
            return self.work("kernel", stream, lambda: None)
        values = kernel.copied(arguments)

        def run() -> None:
            kernel.run(grid, block, shared, values)
            for address in kernel.addresses(values):
                self.memory.check(address, kernel.name)

        self.work("kernel", stream, run)

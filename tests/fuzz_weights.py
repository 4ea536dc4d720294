"""Judges what the readers of weight files do with files that are damaged or hostile.

`python tests/fuzz_weights.py --count 200000` tries so many files of each format and prints a table.
A file is read right, or refused with a clear error; anything else is a fault: another error, other
numbers, too much time or memory, and any code, import, process or other file that is touched.
--start continues a run that was stopped, --start N --count 1 tries one file again.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from weight_damage import make
from weight_files import FORMATS, STATE, bits, same, whole

from minswin.weights import read_file, read_weights
from minswin.weights.files.mapped import ALLOWANCE, EXPANSION, STORED

SECONDS = 5.0  # of processor time for one file
STUCK = 1800  # seconds in which 1,000 files have to be done, or the process ends
Arrays = dict[str, np.ndarray]

# ── what a reader touches ────────────────────────────────────────────────────────────────────────

_FORBIDDEN = ("exec", "compile", "import", "pickle.", "os.", "subprocess.", "socket.", "ctypes.")
_watched = ""  # the only file that may be opened; "" while nobody is judged
_events: list[str] = []


class TooSlow(BaseException):
    """Not an Exception, so that no reader takes it for an error of the file."""


def _watch(event: str, args: tuple[object, ...]) -> None:
    if not _watched:
        return
    other = event == "open" and not isinstance(args[0], int) and str(args[0]) != _watched
    if event.startswith(_FORBIDDEN) or other:  # the opening of a descriptor was seen before
        _events.append(f"{event} {args!r:.80}")


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow after so many seconds of processor time; not where signals are unknown."""

    def ring(*_: object) -> None:
        raise TooSlow

    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def start_watching() -> None:
    """Have Python report every import, every code that is run, and every process, once for all."""
    if getattr(sys, "_minswin_watched", False):
        return
    with tempfile.TemporaryDirectory() as folder:  # imports what the readers import at first
        for form, content in whole().items():
            judge(Path(folder) / form, content)
    b"\xe9".decode("cp437")  # the names of a zip file; Python imports the code page at first use
    sys._minswin_watched = True  # type: ignore[attr-defined]
    sys.addaudithook(_watch)


def resident(line: str) -> int:
    """Bytes of memory that the process has (VmRSS), or had at most since forget_peak (VmHWM)."""
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return 0
    at = status.index(line.encode()) + len(line) + 1
    return 1024 * int(status[at : status.index(b"kB", at)])


def forget_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "wb") as file:
            file.write(b"5")
    except OSError:
        pass


# ── the judge ────────────────────────────────────────────────────────────────────────────────────


class Verdict(NamedTuple):
    """'read', 'refused' or 'FAULT', why, the processor time and by how much memory grew."""

    end: str
    reason: str
    seconds: float = 0.0
    memory: int = 0


def judge(
    path: Path, content: bytes, behind_check_sum: bool = False, seconds: float = SECONDS
) -> Verdict:
    """Have the file read, under a limit of processor time and of memory."""
    path.write_bytes(content)
    forget_peak()
    found, error, before, start = {}, None, resident("VmRSS:"), time.process_time()
    try:
        found = _read_watched(path, seconds)
    except KeyboardInterrupt:
        raise
    except BaseException as caught:
        error = caught
    passed, memory = time.process_time() - start, max(0, resident("VmHWM:") - before)
    size = len(content)
    most = 2 * (EXPANSION * size + ALLOWANCE)
    faults = (
        f"touched something: {_events[0]}" if _events else "",
        f"took {memory:,} bytes for a file of {size:,}" if memory > most else "",
        _unclear(error, path, seconds) if error else _wrong(found, size, behind_check_sum),
    )
    if fault := next(filter(None, faults), ""):
        return Verdict("FAULT", fault, passed, memory)
    return Verdict("refused" if error else "read", str(error or ""), passed, memory)


def _read_watched(path: Path, seconds: float) -> Arrays:
    global _watched
    _events.clear()
    _watched = str(path)
    try:
        with time_limit(seconds):
            return read_weights(path, prefixes=())
    finally:
        _watched = ""


def _unclear(error: BaseException, path: Path, seconds: float) -> str:
    if isinstance(error, TooSlow):
        return f"took more than {seconds} seconds"
    text = str(error)
    clear = type(error) is ValueError and f"read_weights: {path}" in text and len(text) < 1000
    return "" if clear else f"unclear {type(error).__name__}: {text[:300]}"


def _wrong(found: Arrays, size: int, behind_check_sum: bool) -> str:
    kinds = {kind.name for kind in STORED.values()}
    if any(array.dtype.name not in kinds for array in found.values()):
        return "a kind of number that no format has"
    total = sum(array.nbytes for array in found.values())
    if total > 2 * (EXPANSION * size + ALLOWANCE):
        return f"{total:,} bytes from a file of {size:,}"
    for array in found.values():
        array.tobytes()  # touches every byte
    if behind_check_sum and not same(found, STATE):
        return "other numbers than were saved, under a check sum"
    return ""


# ── a second opinion on what was read ────────────────────────────────────────────────────────────


def theirs(form: str, path: Path) -> Arrays | None:
    """What safetensors, numpy.load or torch.load finds in the file; None where it finds nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _READERS[form](path)
    except Exception:
        return None


def _numpys(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {label: file[label] for label in file.files}


def _torchs(path: Path) -> Arrays | None:
    torch = sys.modules.get("torch")  # taken where somebody has loaded it
    if torch is None:
        return None
    tree = torch.load(path, map_location="cpu", weights_only=True)
    for label in filter(None, read_file(path, prefixes=()).wrapper.split(".")):
        tree = tree[label]
    tensors = {
        k: t.detach() for k, t in tree.items() if isinstance(t, torch.Tensor) and type(k) is str
    }
    wide = {k: t.float() if t.dtype == torch.bfloat16 else t for k, t in tensors.items()}
    return {label: tensor.numpy() for label, tensor in wide.items()}


_READERS: dict[str, Callable[[Path], Arrays | None]] = {
    "safetensors": safetensors.numpy.load_file,
    "npz": _numpys,
    "pth": _torchs,
    "legacy": _torchs,
}


def differ(ours: Arrays, other: Arrays) -> str:
    if ours.keys() != other.keys():
        return f"other names: {sorted(ours.keys() ^ other.keys())!r:.200}"
    labels = [label for label in ours if bits(ours[label]) != bits(other[label])]
    return f"other numbers in {labels!r:.200}" if labels else ""


# ── many files ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Tally:
    """What became of the files of one format."""

    form: str
    files: int = 0
    read: int = 0
    confirmed: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)

    def row(self) -> str:
        counts = (self.files, self.read, self.confirmed, self.refused, len(self.faults))
        return (
            f"{self.form:>11}"
            + "".join(f"{count:>10,}" for count in counts)
            + f"{1e3 * self.seconds / max(1, self.files):>10.2f}"
            + f"{1e3 * self.slowest:>10.1f}{self.memory / 2**20:>9.1f}"
        )


HEADING = (
    "     format     files read right confirmed   refused    faults   mean ms   slowest  peak MB"
)
LEGEND = """
read right  the arrays came, by all checks; confirmed: another library found the same in the file
refused     with a ValueError that names the file and says what is wrong with it
peak MB     by how much one file made the memory of the process grow at most; times are of the
            processor, for one file"""


def fuzz(
    form: str,
    count: int,
    folder: Path,
    *,
    seed: int = 0,
    start: int = 0,
    seconds: float = SECONDS,
    tell: Callable[[Tally, int], None] = lambda tally, index: None,
) -> Tally:
    """Judge files start ... start + count of a format."""
    path, flag = folder / f"fuzzed.{form}", folder / "ran"
    start_watching()
    tally = Tally(form)
    for index in range(start, start + count):
        content, bytewise = make(form, seed, index, f"touch {flag}")
        verdict = judge(path, content, bytewise and form in ("npz", "pth"), seconds)
        _enter(tally, verdict, f"{form} seed {seed} file {index}", path)
        if flag.exists():
            tally.faults.append(f"{form} seed {seed} file {index}: ran a command")
            flag.unlink()
        tell(tally, index)
    path.unlink()
    return tally


def _enter(tally: Tally, verdict: Verdict, label: str, path: Path) -> None:
    fault = verdict.reason if verdict.end == "FAULT" else ""
    if verdict.end == "read" and (other := theirs(tally.form, path)) is not None:
        ours = read_weights(path, prefixes=())
        # torch reads memory that nobody wrote where a local header of the zip file is damaged
        fault = "" if same(ours, STATE) else differ(ours, other)
        tally.confirmed += not fault
    if fault:
        tally.faults.append(f"{label}: {fault}")
    tally.read += verdict.end == "read" and not fault
    tally.refused += verdict.end == "refused"
    tally.files += 1
    tally.seconds += verdict.seconds
    tally.slowest = max(tally.slowest, verdict.seconds)
    tally.memory = max(tally.memory, verdict.memory)


def _tell(tally: Tally, index: int) -> None:
    if tally.files % 1000 == 1:
        faulthandler.dump_traceback_later(STUCK, exit=True)
    if tally.files % 10_000 == 0:
        now = time.strftime("%H:%M:%S")
        print(
            f"{now} {tally.form}: file {index:,} done, {len(tally.faults)} faults",
            *tally.faults[:20],
            sep="\n    ",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000, help="files of each format")
    parser.add_argument("--start", type=int, default=0, help="the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of processor, for a file")
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--torch", action="store_true", help="have torch.load confirm .pth files")
    args = parser.parse_args()
    if args.torch:
        __import__("torch")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    tallies = []
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for form in args.format or FORMATS:
            settings = {"seed": args.seed, "start": args.start, "seconds": args.seconds}
            tallies.append(fuzz(form, args.count, Path(folder), tell=_tell, **settings))
    faults = [fault for tally in tallies for fault in tally.faults]
    print(HEADING, *(tally.row() for tally in tallies), LEGEND, *faults[:80], sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""One whole measurement: the parts in order, each written down as soon as it is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from minswin.bench import report
from minswin.bench.breakdown import break_down
from minswin.bench.busy import busy
from minswin.bench.ceilings import Ceilings, ceilings
from minswin.bench.children import Failed, blas_threads, call
from minswin.bench.machine import machine, machine_line, save_json
from minswin.bench.pictures import save_pictures
from minswin.bench.race import Tell, race, ratios
from minswin.bench.setups import SETUPS
from minswin.bench.startup import startups
from minswin.bench.sweep import SIDES, check_sides, sweep
from minswin.parallel import cores
from minswin.replacing import require_replaceable

PARTS = ("race", "startup", "breakdown")  # what is measured without being asked for
CONTENDERS = ("minswin", "timm", "timm-fused", "transformers", "transformers-fused")
ALL_PARTS = (*PARTS, "sweep", "busy")


class Bench:
    """A measurement: its settings, and the results so far.

    configurations: names of SETUPS   parts: some of ALL_PARTS   out: the .json, a .png beside it
    precision: of the race, "float32" or "bfloat16"
    tell: is given a line now and then, show: is given the tables, one by one
    """

    def __init__(
        self,
        configurations: Sequence[str] = (),
        *,
        parts: Sequence[str] = PARTS,
        contenders: Sequence[str] = CONTENDERS,
        threads: int | None = None,
        rounds: int = 10,
        precision: str = "float32",
        sides: Sequence[int] | None = None,
        out: str | Path | None = None,
        tell: Tell = lambda line: None,
        show: Callable[[str], None] = lambda table: None,
    ) -> None:
        self.configurations = tuple(configurations) or tuple(SETUPS)
        unknown = [name for name in self.configurations if name not in SETUPS]
        if unknown:
            raise ValueError(
                f"bench: unknown configuration {unknown[0]!r}; choose among {', '.join(SETUPS)}"
            )
        self.sides = tuple(SIDES if sides is None else sides)
        check_sides(self.sides)
        if rounds < 1:
            raise ValueError(f"bench: rounds must be 1 or more, got {rounds}")
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"bench: precision must be float32 or bfloat16, got {precision!r}")
        if precision != "float32" and (set(parts) != {"race"} or "reference" in contenders):
            raise ValueError(
                f"bench: precision {precision} is of the race alone, the definitions have none; "
                "give --race, and neither other parts nor --reference"
            )
        self.parts, self.contenders, self.rounds = tuple(parts), tuple(contenders), rounds
        self.threads = cores() if threads is None else threads
        self.precision, self.out = precision, _writable(out)
        self.show, self._tell, self._start = show, tell, time.perf_counter()
        settings = {"threads": self.threads, "rounds": rounds, "contenders": self.contenders}
        when = datetime.now().astimezone().isoformat(timespec="seconds")
        self.results: dict[str, Any] = {"when": when, "machine": machine(), "settings": settings}

    def run(self) -> dict[str, Any]:
        """Measure all parts; gives the results as they stand in the JSON file."""
        self.show(machine_line(self.results["machine"]))
        if "OPENBLAS_CORETYPE" in os.environ:
            self.show("OPENBLAS_CORETYPE is set; the race is run without it")
        for part in ALL_PARTS:
            if part in self.parts:
                getattr(self, part)()
                self._save()
        self._draw()
        return self.results

    def tell(self, line: str) -> None:
        self._tell(f"{time.perf_counter() - self._start:5.0f} s  {line}")

    # ── the parts ────────────────────────────────────────────────────────────────────────────────

    def race(self) -> None:
        races = self.results["race"] = {}
        for name in self.configurations:
            setup = SETUPS[name]._replace(precision=self.precision)
            self.tell(f"race {name}: {setup.model}")
            found = race(
                self.contenders, setup, threads=self.threads, rounds=self.rounds, tell=self.tell
            )
            races[name] = {"setup": setup, "contenders": found, "ratios": ratios(found)}
            self.show(report.race_table(setup, found, self.threads, self.rounds))
            self._save()
        self.show(report.RACE_LEGEND)

    def startup(self) -> None:
        tables = self.results["startup"] = {}
        for name in self.configurations:
            self.tell(f"startup {name}: without compiled kernels, then with them")
            try:
                found = startups(name, self.threads)
            except (Failed, ValueError) as error:
                self._missing(f"startup of {name}", error)
                continue
            tables[name] = {**found._asdict(), "compiling": found.compiling}
            self.show(report.startup_table(found))

    def busy(self) -> None:
        tables = self.results["busy"] = {}
        for name in self.configurations:
            self.tell(f"busy {name}: alone, then beside two processes that count")
            try:
                tables[name] = busy(name)
            except (Failed, ValueError) as error:
                self._missing(f"busy of {name}", error)
                continue
            self.show(report.busy_table(name, tables[name]))

    def breakdown(self) -> None:
        limits: list[Ceilings] = []
        for threads in sorted({1, self.threads}):
            self.tell(f"ceilings of {report.counted(threads, 'thread')}")
            limits.append(call(ceilings, threads, environment=blas_threads(threads)))
        self.results["ceilings"] = limits
        self.show(report.ceilings_table(limits))
        tables = self.results["breakdown"] = {}
        for name in self.configurations:
            self.tell(f"breakdown {name}")
            try:
                found = call(break_down, SETUPS[name], environment=blas_threads(1))
            except Failed as error:
                self._missing(f"breakdown of {name}", error)
                continue
            tables[name] = found
            self.show(report.breakdown_table(found, limits[0]))

    def sweep(self) -> None:
        self.tell(f"sweep: sides {', '.join(map(str, self.sides))}")
        measured = call(_sweep, self.sides, self.rounds, environment=blas_threads(1))
        self.results["sweep"] = measured
        self.show(report.sweep_table(measured))

    # ── what stays ───────────────────────────────────────────────────────────────────────────────

    def _missing(self, what: str, why: Exception) -> None:
        self.results.setdefault("missing", {})[what] = str(why)
        self.show(f"{what}: not measured: {why}")

    def _save(self) -> None:
        if self.out is not None:
            save_json(self.results, self.out)

    def _draw(self) -> None:
        if self.out is None:
            return
        races = {n: found["contenders"] for n, found in self.results.get("race", {}).items()}
        picture = self.out.with_suffix(".png")
        try:
            drawn = save_pictures(races, self.results.get("sweep"), picture)
        except Exception as error:  # the figures are on the disk, and what they say was shown
            self.show(f"no picture: {error}")
            drawn = False
        self.show(f"written: {self.out}{f' and {picture}' if drawn else ''}")


def _sweep(sides: Sequence[int], rounds: int) -> Any:
    return sweep(sides, rounds=rounds)


def _writable(out: str | Path | None) -> Path | None:
    """The path of the results; that it cannot be written is said before the work, not after."""
    if out is None:
        return None
    path = Path(out)
    if path.suffix != ".json":
        raise ValueError(f"bench: the results go into a .json file, got {str(path)!r}")
    require_replaceable(path, who="bench")
    require_replaceable(path.with_suffix(".png"), who="bench")
    return path

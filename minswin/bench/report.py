"""The measurements as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from minswin.bench.breakdown import Breakdown, Row
from minswin.bench.busy import Busy
from minswin.bench.ceilings import Ceilings
from minswin.bench.clock import Spread
from minswin.bench.contenders import MEANINGS, OURS
from minswin.bench.peers import MISSING
from minswin.bench.race import Lap, Result, ratios
from minswin.bench.setups import Setup
from minswin.bench.startup import Startups
from minswin.bench.sweep import Sweep, per_pixel

DOT = "·"  # where there is nothing to say


# ── the race ─────────────────────────────────────────────────────────────────────────────────────


def race_table(setup: Setup, result: Result, threads: int, rounds: int) -> str:
    """Time and memory of every contender, beside what they are as multiples of minswin's."""
    by_ours = ratios(result)
    rows: list[tuple[str, ...]] = [
        ("contender", "training step", "×", "inference", "×", "peak memory", "×", "imports alone")
    ]
    for name, lap in result.items():
        if isinstance(lap, Lap):
            rows.append(_race_row(name, lap, by_ours[name]))
    parameters = [f"{lap.start.parameters:,}" for lap in result.values() if isinstance(lap, Lap)]
    lines = [
        f"{setup.model}, batch {setup.batch}, {setup.img_size}×{setup.img_size}, "
        f"{', '.join(parameters[:1]) or 'no'} parameters, {counted(threads, 'thread')}, "
        f"{counted(rounds, 'round')}, {setup.precision}"
    ]
    if parameters:
        lines += ["", columns(rows), "", *_fastest_peers(by_ours)]
        lines += [f"{name}: {MEANINGS[name]}" for name in result]
    lines += [f"{name} did not run: {why}" for name, why in result.items() if isinstance(why, str)]
    if any(isinstance(why, str) and MISSING in why for why in result.values()):
        lines.append(f"For the comparison with PyTorch: {MISSING.split('; ')[1]}")
    return "\n".join(lines)


def _race_row(name: str, lap: Lap, by_ours: dict[str, float]) -> tuple[str, ...]:
    return (
        name,
        duration(lap.train),
        f"{by_ours['train']:.2f}",
        duration(lap.infer),
        f"{by_ours['infer']:.2f}",
        f"{lap.start.peak:,.0f} MiB",
        f"{by_ours['memory']:.2f}",
        f"{lap.start.imported:,.0f} MiB",
    )


def _fastest_peers(by_ours: dict[str, dict[str, float]]) -> list[str]:
    """What minswin is compared with: the best of the others in each column."""
    peers = {name: figures for name, figures in by_ours.items() if name not in OURS}
    if not peers:
        return []
    best = {what: min(peers, key=lambda name: peers[name][what]) for what in WHAT}
    text = ", ".join(f"{WHAT[what]} {peers[best[what]][what]:.2f} ({best[what]})" for what in WHAT)
    return [f"against the best peer of each column: {text}", ""]


WHAT = {"train": "training", "infer": "inference", "memory": "memory"}
RACE_LEGEND = """\
×: by minswin's figure, so above 1 minswin is faster or smaller. Times are medians (and quartiles)
of steps in turn; a training step is forward, cross-entropy, backward and SGD with momentum. Peak
memory: the whole process after two training steps; of it, imports alone come before the model."""


# ── the breakdown ────────────────────────────────────────────────────────────────────────────────


def breakdown_table(breakdown: Breakdown, ceiling: Ceilings) -> str:
    """Every operation of a step with its rate, as a share of what the machine can do."""
    rows = [("operation", "direction", "calls", "ms", "share", "rate", "of ceiling")]
    for row in breakdown.rows:
        share = f"{row.seconds / breakdown.seconds:.1%}"
        count = f"{row.calls}" if row.calls else DOT
        milliseconds = f"{row.seconds * 1e3:.1f}"
        rows.append(
            (row.operation, row.direction, count, milliseconds, share, *_rate(row, ceiling))
        )
    calls = sum(row.calls for row in breakdown.rows)
    rows.append(("the whole step", "", f"{calls}", f"{breakdown.seconds * 1e3:.1f}", "", "", ""))
    title = f"{breakdown.model}, one training step, batch {breakdown.batch}, one thread"
    return f"{title}\n\n{columns(rows, left=2)}"


def _rate(row: Row, ceiling: Ceilings) -> tuple[str, str]:
    if row.flops:
        rate = row.flops / row.seconds / 1e9
        return f"{rate:.1f} GF/s", f"{rate / ceiling.products:.0%}"
    if row.bytes:
        rate = row.bytes / row.seconds / 1e9
        return f"{rate:.1f} GB/s", f"{rate / ceiling.copies:.0%}"
    return DOT, DOT


def ceilings_table(found: Sequence[Ceilings]) -> str:
    """What the machine does at best."""
    rows = [("ceilings, float32", "large product", "copy of a large array")]
    for c in found:
        rows.append(
            (counted(c.threads, "thread"), f"{c.products:.0f} GF/s", f"{c.copies:.1f} GB/s")
        )
    return columns(rows)


# ── the start, the sweep ─────────────────────────────────────────────────────────────────────────


def startup_table(startups: Startups) -> str:
    """A fresh process second by second, without and with compiled kernels on disk."""
    empty, warm = startups.empty_cache._asdict(), startups.warm_cache._asdict()
    rows = [(f"seconds of a fresh process, {startups.setup}", "empty cache", "warm cache")]
    rows += [(name.replace("_", " "), f"{empty[name]:.2f}", f"{warm[name]:.2f}") for name in warm]
    end = f"Compiling the {counted(startups.kernels, 'kernel')} of a training step from nothing"
    return f"{columns(rows)}\n\n{end} takes {startups.compiling:.1f} s."


def busy_table(name: str, measured: Sequence[Busy]) -> str:
    """A step of a plain model(x), alone and beside busy processes."""
    rows = [(f"seconds of a step of {name}, threads", "alone", "beside two busy ones", "ratio")]
    for b in measured:
        rows.append((b.threads, f"{b.alone:.3f}", f"{b.beside:.3f}", f"{b.beside / b.alone:.1f}"))
    return columns(rows)


def sweep_table(sweep: Sweep) -> str:
    """Milliseconds and multiply-adds of one image of every side, and of a pixel."""
    rows = [("model", "side", "inference", "GMACs", "time per pixel", "MACs per pixel")]
    for name, points in sweep.items():
        relative = per_pixel(points)
        for p in points:
            by_time, by_macs = relative[p.side]
            macs = f"{p.macs / 1e9:.2f}"
            shown = name, f"{p.side}", duration(p.times), macs, f"{by_time:.2f}", f"{by_macs:.2f}"
            rows.append(shown)
    end = "Per pixel: by that at 224 (else the first side). One image at a time, so on one core."
    return f"{columns(rows)}\n\n{end}"


# ── lines ────────────────────────────────────────────────────────────────────────────────────────


def counted(number: int, what: str) -> str:
    """1 thread, 2 threads."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(times: Spread) -> str:
    """Median and quartiles: 590 ms (580–601)."""
    low, median, high = (f"{t * 1e3:,.0f}" if t >= 0.1 else f"{t * 1e3:.2g}" for t in times)
    return f"{median} ms ({low}–{high})"


def columns(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Rows of equal length under their heads, a rule under line 1; the first `left` to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            f"{cell:{'<' if i < left else '>'}{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])

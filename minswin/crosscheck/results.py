"""All that a comparison found: as plain data, which `--json` writes, and as text for the terminal.

The data holds the sentences; the text lays them out in sections, and so does the page (html.py).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minswin.crosscheck.align import ONLY, losses_of
from minswin.crosscheck.bounds import reason
from minswin.crosscheck.compare import ROUNDING
from minswin.crosscheck.doubts import Doubts
from minswin.crosscheck.findings import (
    GOOD,
    TAKEN,
    Comparison,
    Coverage,
    Diagnosis,
    Finding,
    coverage,
    unseen_layers,
)
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.observations import describe, place_of
from minswin.version import VERSION

__all__ = ["data_of", "json_of", "report"]

Data = dict[str, Any]
FORMAT = "minswin comparison 1"
BEFORE, BEHIND = 5, 3  # rows that are shown before and behind the first divergence
WIDEST = 5  # where nothing is wrong: so many of the largest errors
ALIKE = 8  # mistakes that are told of those that half precision hides
COLUMNS = {  # numbers of a row: how their column is called, its width, how they are written
    "absolute": ("abs. error", 10, ".1e"),
    "relative": ("relative", 9, ".1e"),
    "cosine": ("cosine", 9, ".6f"),
    "ulps": ("ULPs", 8, ".2g"),
    "of limit": ("of limit", 9, ".2g"),
}
GUESSED = "by its shape alone: it may be another tensor of theirs; a line of --names says it"
JUDGED = {
    "its own inputs": "what follows from its own inputs: the mistake is in this step",
    "earlier tensors": (
        "what follows from their nearest earlier tensors: the mistake lies in between"
    ),
    ROUNDING: "what rounding does, and what likely mistakes would do",
    "truth": "our value, in float64",
}


# ── the data ─────────────────────────────────────────────────────────────────────────────────────


def data_of(
    truth: Trace, comparison: Comparison, diagnosis: Diagnosis | None, command: str = ""
) -> Data:
    """All that a comparison found. command: what makes it again"""
    doubts, given = comparison.doubts, comparison.aligned.get(LOSSES)
    return {
        "format": FORMAT,
        "minswin": VERSION,
        "command": command,
        "model": truth.header.get("model", ""),
        "settings": dict(truth.header.get("overrides", {})),
        "verdict": "right" if comparison.passed else "wrong" if comparison.first else "undecided",
        "summary": list(_summary(comparison)),
        "rests on": {
            "values": _seen(coverage(comparison)),
            "gradients": _seen(coverage(comparison, gradients=True)),
            "layers not seen": unseen_layers(comparison),
            "theirs that are none of ours": list(comparison.unused),
            "lines of the map without a tensor": list(comparison.absent),
        },
        "cannot be told apart from": [
            {"mistake": h.edit.words, "place": h.edit.place, "diff": h.edit.diff}
            for h in (doubts.alike if doubts is not None else ())
        ],
        "losses": [] if given is None else list(_losses(truth, given.array)),
        "first": _first(truth, comparison.first) if comparison.first else None,
        "diagnosis": _diagnosis(diagnosis) if diagnosis else None,
        "tensors": [_row(f) for f in comparison.findings if f.verdict != "missing"],
        "missing": [f.name for f in comparison.findings if f.verdict == "missing"],
    }


def json_of(data: Data) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _row(f: Finding) -> Data:
    numbers = {word: getattr(f, word) for word in ("absolute", "relative", "cosine", "ulps")}
    numbers |= {"of limit": f.off, "limit": f.limit}
    return {
        **{word: getattr(f, word) for word in ("name", "theirs", "note")},
        "shape": list(f.shape),
        "verdict": f.verdict,
        "good": f.verdict in (*GOOD, TAKEN),
        "judged against": f.given,
        **{word: _number(x) for word, x in numbers.items()},
    }


def _number(x: float) -> float | None:
    """None for what JSON has no word for: an error that no limit allows, or no number."""
    return float(x) if math.isfinite(x) else None


def tensors(count: int) -> str:
    return f"{count} tensor{'s' * (count != 1)}"


def _summary(comparison: Comparison) -> Iterator[str]:
    counts = Counter(f.verdict for f in comparison.findings if f.verdict != "missing")
    compared = counts.total()
    yield f"{tensors(compared)} compared: {', '.join(f'{n} {v}' for v, n in counts.items())}"
    if counts["follows"]:
        yield "  follows: not equal to ours, but right for what came in; the cause is further up"
    if comparison.taken:
        names = ", ".join(f.name for f in comparison.taken[:5])
        yield "  taken as they are given, and what is behind judged from them, as the map says:"
        yield f"  {names}{', …' if len(comparison.taken) > 5 else ''}"
    if comparison.unused:
        names = ", ".join(comparison.unused[:5]) + (", …" if len(comparison.unused) > 5 else "")
        yield f"  {len(comparison.unused)} of theirs were not found among ours: {names}"
        yield "  (a line 'our name = their name' in --names MAP says what a tensor is; --draft-map"
        yield "  writes one from the tensors whose values were found)"
    if comparison.absent:
        lines = "; ".join(comparison.absent[:3]) + (" …" if len(comparison.absent) > 3 else "")
        yield f"  {len(comparison.absent)} lines of the map name no tensor of theirs: {lines}"
    if comparison.first is None and comparison.unknown:
        yield f"Undecided: nothing is wrong among the {compared} that could be paired, but"
        yield f"{len(comparison.unknown)} of theirs were not, and no value finds what is wrong."
        yield "Say with --names what they are, the logits and gradients first. The status is 1,"
        yield "as if something were wrong."
    if comparison.drifted:
        names = ", ".join(f.name for f in comparison.drifted[:3])
        yield "Undecided: no step is wrong by itself, and yet their errors add up to more than"
        yield f"rounding does: {names}. Hand out more tensors. The status is 1."
    if comparison.doubts is not None and comparison.first is None:
        yield from _in_half_precision(comparison.doubts)
    if comparison.passed:
        yield "No divergence."


def _in_half_precision(doubts: Doubts) -> Iterator[str]:
    """What the numbers of half precision cannot tell."""
    yield f"Half precision: {doubts.tried:,} small edits of our text were held against them."
    if not doubts.finished:
        yield "Undecided: the time ran out before all likely ones were; --seconds gives it more."
    yield "At this precision right cannot be told apart from:"
    for h in doubts.alike[:ALIKE]:
        yield f"  · {h.edit.words}   [{h.edit.place}]"
        yield from (f"      {line}" for line in h.edit.diff.splitlines() if line[0] == "+")
    if len(doubts.alike) > ALIKE:
        yield f"  · and {len(doubts.alike) - ALIKE} more; in float32 all of them show"
    yield "  · what else changes these numbers by less than about twice what rounding does"


def _losses(truth: Trace, theirs: np.ndarray) -> Iterator[Data]:
    """Loss by loss, before the first optimizer step and after each; then those of the mean."""
    ours, steps = losses_of(truth)[LOSSES], truth.header["optimizer"]["steps"]
    for i, (a, b) in enumerate(zip(ours, np.ravel(theirs), strict=False)):
        step = str(i) if i <= steps else f"{i - steps}, the mean"
        yield {"optimizer steps": step, "ours": _number(a), "theirs": _number(b)}


def _seen(c: Coverage) -> Data:
    """The numbers, and in words what a pass was judged by."""
    judged = {"by their own inputs": c.by_inputs, "by earlier tensors": c.by_earlier}
    ways = [f"{n} {way}" for way, n in {**judged, "against ours": c.by_truth}.items() if n]
    words = f"{c.seen} of {c.of} seen ({c.by_name} by name, {c.by_value} by their values)"
    words += f"; judged: {', '.join(ways)}" if ways else ""
    return {**c._asdict(), "in words": words if c.seen else f"none of {c.of}"}


def _first(truth: Trace, f: Finding) -> Data:
    """The first divergence."""
    step, wrong = f.step, f.verdict == "wrong"
    where = describe(step, f.worst, truth.steps)
    place = place_of(step.name) or step.name
    title = f"{place}  [{f.name}]"
    if f.name.startswith(COTANGENT):
        title = f"the gradient of the loss by {title}\n  "
        title += "all values that were paired are right, and all gradients nearer to the loss"
    elif f.name.startswith(AFTER):
        title = f"after the optimizer's steps, {title}; values and gradients are right"
    return {
        **_row(f),
        "title": title,
        "place": place,
        "index": list(f.worst),
        "where": where or ("it is one number" if wrong and f.given != ROUNDING else ""),
        "how much": _how_much(f) if wrong else "",
        "judged": f"against {JUDGED[f.given]}" if wrong else "",
        "paired": GUESSED if ONLY in f.note else "",
        "how": "" if wrong else f.note,
        "formula": step.formula,
        "our line": f"{step.line}   {step.code}".strip(),
        "made of": list(step.inputs),
    }


def _how_much(f: Finding) -> str:
    if f.given == ROUNDING:
        return f"{f.off:.2g} times what rounding gives there, which has another direction"
    if not math.isfinite(f.off):
        return "any difference is too much: this step only moves numbers, or was given"
    own = f.given == "its own inputs"
    why = reason(f.step.op) if own else "16 times what our own pass in float32 is off there"
    return f"{f.off:,.0f} times the limit ({why})"


def _diagnosis(diagnosis: Diagnosis) -> Data:
    words = ("claim", "causes", "observations", "tried", "unfinished")
    causes = [
        {
            "words": cause.name,
            "place": cause.place,
            "diff": cause.diff.splitlines(),
            "remedy": cause.remedy,
            "threads": list(cause.threads),
            **{word: getattr(cause, word) for word in ("explains", "sure", "also", "of")},
            "the same": [" ".join(other.split()) for other in cause.others],
        }
        for cause in diagnosis.causes
    ]
    return {word: getattr(diagnosis, word) for word in words} | {"causes": causes}


# ── the text ─────────────────────────────────────────────────────────────────────────────────────


def report(data: Data, *, every: bool = False) -> str:
    """The whole answer of `minswin compare`."""
    heads = _columns(("shape", *(head for head, _, _ in COLUMNS.values())))
    lines = [f"{'tensor':44} {heads}  verdict", *_rows(data, every)]
    return "\n".join([*lines, *(f"\n{section}" for section in sections(data))])


def sections(data: Data) -> Iterator[str]:
    """What is told below the table: the summary, the first divergence, the cause, the grounds."""
    yield "\n".join(_told(data))
    if first := data["first"]:
        words = ("where", "how much", "judged", "paired", "how", "formula", "our line")
        rows = {**{word: first[word] for word in words}, "made of": ", ".join(first["made of"])}
        yield "\n".join([f"First divergence: {first['title']}", *_lines(rows, "  ")])
    if data["diagnosis"]:
        yield "\n".join(why(data["diagnosis"]))
    rests = data["rests on"]
    unseen = ", ".join(rests["layers not seen"][:4])
    more = f", … ({len(rests['layers not seen'])})" if len(rests["layers not seen"]) > 4 else ""
    rows = {word: rests[word]["in words"] for word in ("values", "gradients")}
    rows["not seen"] = f"{unseen}{more}; what they hide shows later on" if unseen else ""
    rows["again"] = data["command"]
    yield "\n".join(["The verdict rests on", *_lines(rows, "  ")])


def _lines(words: dict[str, str], indent: str) -> Iterator[str]:
    return (f"{indent}{word:9} {text}" for word, text in words.items() if text)


def _rows(data: Data, every: bool) -> Iterator[str]:
    rows, first = data["tensors"], data["first"]
    if first is None and not every:
        yield from map(_line, sorted(rows, key=lambda row: -(row["of limit"] or 0))[:WIDEST])
        if len(rows) > WIDEST:
            yield f"… {len(rows) - WIDEST} more, all farther below their limits; --all shows them"
        return
    at = [row["name"] for row in rows].index(first["name"]) if first else -1
    start, end = (0, len(rows)) if every else (max(at - BEFORE, 0), at + BEHIND + 1)
    if start:
        yield f"… {tensors(start)} before, nothing wrong with them"
    for i, row in enumerate(rows[start:end], start):
        yield _line(row) + ("   ◀── the first divergence" if i == at else "")
    if end < len(rows):
        yield f"… {tensors(len(rows) - end)} behind; --all shows them"


def _line(row: Data) -> str:
    note = f" ({row['note']})" if row["note"] else ""
    return f"{row['name']:44} {_columns(cells(row))}  {row['verdict']}{note}"


def cells(row: Data) -> Iterator[str]:
    """The shape of a row, and its numbers in the order of COLUMNS."""
    yield "×".join(map(str, row["shape"])) or "number"
    for key, (_, _, form) in COLUMNS.items():
        none = "limit 0" if key == "of limit" else "—"
        yield none if row[key] is None else f"{row[key]:{form}}"


def _columns(texts: Iterable[str]) -> str:
    widths = (15, *(width for _, width, _ in COLUMNS.values()))
    return " ".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))


def _told(data: Data) -> Iterator[str]:
    """What was compared, with all losses, where there are any."""
    yield from data["summary"]
    if data["losses"]:
        yield f"\n{'optimizer steps':>15} {'our loss':>12} {'theirs':>12} {'difference':>11}"
    for loss in data["losses"]:
        a, b = (float("nan") if loss[of] is None else loss[of] for of in ("ours", "theirs"))
        yield f"{loss['optimizer steps']:>15} {a:12.8f} {b:12.8f} {b - a:11.1e}"


def why(diagnosis: Data) -> Iterator[str]:
    yield f"Diagnosis: {diagnosis['claim']}".rstrip()
    for cause in diagnosis["causes"]:
        yield f"  {'✗' if cause['sure'] else '?'} {cause['words']}   [{cause['place']}]"
        yield from (f"      {line}" for line in cause["diff"])
        rows = {
            "remedy": cause["remedy"],
            "met in": ", ".join(cause["threads"]),
            "also": f"gives {cause['also']}" if cause["also"] else "",
            "the same": "; ".join(cause["the same"]),
        }
        yield from _lines(rows, "    ")
    if diagnosis["unfinished"]:
        yield "  the time ran out before all were tried; --seconds gives it more"
    yield from (f"  · {line}" for line in diagnosis["observations"])

"""The data of a comparison as text: the rows around the first divergence, where it is, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from minswin.crosscheck.results import COLUMNS, Data, cells, lines_of_cause, lines_of_first, tensors

BEFORE, BEHIND = 5, 3  # rows that are shown before and behind the first divergence
WIDEST = 5  # where nothing is wrong: so many of the largest errors


def report(data: Data, *, every: bool = False) -> str:
    """The whole answer of `minswin compare`."""
    heads = _columns(("shape", *(head for head, _, _ in COLUMNS.values())))
    lines = [f"{'tensor':44} {heads}  verdict", *_rows(data, every), "", *summary(data)]
    if data["first"]:
        lines += ["", f"First divergence: {data['first']['title']}"]
        lines += _lines(lines_of_first(data["first"]), "  ")
    if data["diagnosis"]:
        lines += ["", *why(data["diagnosis"])]
    lines += ["", *_rests_on(data["rests on"]), *_lines({"again": data["command"]}, "  ")]
    return "\n".join(lines)


def _lines(words: dict[str, str], indent: str) -> Iterator[str]:
    return (f"{indent}{word:9} {text}" for word, text in words.items() if text)


# ── the table ────────────────────────────────────────────────────────────────────────────────────


def _rows(data: Data, every: bool) -> Iterator[str]:
    rows, first = data["tensors"], data["first"]
    if first is None and not every:
        yield from map(_row, sorted(rows, key=lambda row: -(row["of limit"] or 0))[:WIDEST])
        if len(rows) > WIDEST:
            yield f"… {len(rows) - WIDEST} more, all farther below their limits; --all shows them"
        return
    at = [row["name"] for row in rows].index(first["name"]) if first else -1
    start, end = (0, len(rows)) if every else (max(at - BEFORE, 0), at + BEHIND + 1)
    if start:
        yield f"… {tensors(start)} before, nothing wrong with them"
    for i, row in enumerate(rows[start:end], start):
        yield _row(row) + ("   ◀── the first divergence" if i == at else "")
    if end < len(rows):
        yield f"… {tensors(len(rows) - end)} behind; --all shows them"


def _row(row: Data) -> str:
    note = f" ({row['note']})" if row["note"] else ""
    return f"{row['name']:44} {_columns(cells(row))}  {row['verdict']}{note}"


def _columns(texts: Iterable[str]) -> str:
    widths = (15, *(width for _, width, _ in COLUMNS.values()))
    return " ".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))


def summary(data: Data) -> Iterator[str]:
    """What was compared, with all losses, where there are any."""
    yield from data["summary"]
    if data["losses"]:
        yield f"\n{'optimizer steps':>15} {'our loss':>12} {'theirs':>12} {'difference':>11}"
    for loss in data["losses"]:
        a, b = (float("nan") if loss[of] is None else loss[of] for of in ("ours", "theirs"))
        yield f"{loss['optimizer steps']:>15} {a:12.8f} {b:12.8f} {b - a:11.1e}"


# ── the cause, and what the verdict rests on ─────────────────────────────────────────────────────


def why(diagnosis: Data) -> Iterator[str]:
    yield f"Diagnosis: {diagnosis['claim']}".rstrip()
    for cause in diagnosis["causes"]:
        yield f"  {'✗' if cause['sure'] else '?'} {cause['words']}   [{cause['place']}]"
        yield from (f"      {line}" for line in cause["diff"])
        yield from _lines(lines_of_cause(cause), "    ")
    if diagnosis["unfinished"]:
        yield "  the time ran out before all were tried; --seconds gives it more"
    yield from (f"  · {line}" for line in diagnosis["observations"])


def _rests_on(rests: Data) -> Iterator[str]:
    yield "The verdict rests on"
    unseen = ", ".join(rests["layers not seen"][:4])
    more = f", … ({len(rests['layers not seen'])})" if len(rests["layers not seen"]) > 4 else ""
    words = {word: rests[word]["in words"] for word in ("values", "gradients")}
    words["not seen"] = f"{unseen}{more}; what they hide shows later on" if unseen else ""
    yield from _lines(words, "  ")

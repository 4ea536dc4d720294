"""A comparison as plain data: what `--json` writes and the page shows; what a verdict rests on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minswin.crosscheck.align import BY_VALUE, ONLY
from minswin.crosscheck.compare import GOOD, Comparison, Finding
from minswin.crosscheck.diagnose import Diagnosis
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.recording import GIVEN
from minswin.crosscheck.where import describe, place_of
from minswin.replacing import replacing
from minswin.version import VERSION

__all__ = ["Coverage", "coverage", "data_of", "verdict_of", "write_json"]

FORMAT = "minswin comparison 1"
WRONG, RIGHT, UNDECIDED = "wrong", "right", "undecided"


class Coverage(NamedTuple):
    """How much of a pass a verdict rests on: tensors, of values that are computed and gradients."""

    of: int  # that our pass has
    by_name: int  # theirs, by an equal name or the map
    by_value: int  # theirs, found by their values or their shape
    by_inputs: int  # judged by what follows from their own inputs
    by_earlier: int  # by what follows from earlier tensors of theirs
    by_truth: int  # by our value

    @property
    def seen(self) -> int:
        return self.by_name + self.by_value


def coverage(comparison: Comparison, *, gradients: bool = False) -> Coverage:
    """Of the values that are computed, or of the gradients of inputs and parameters."""
    chosen = [f for f in comparison.findings if _counts(f, gradients)]
    seen = [f for f in chosen if f.verdict != "missing"]
    paired = sum(BY_VALUE in f.note or ONLY in f.note for f in seen)
    judged = [f for f in seen if f.verdict in (*GOOD, "wrong")]
    return Coverage(
        len(chosen), len(seen) - paired, paired,
        *(sum(f.given == given for f in judged)
          for given in ("its own inputs", "earlier tensors", "truth")),
    )  # fmt: skip


def _counts(finding: Finding, gradients: bool) -> bool:
    given = finding.step.op in GIVEN
    if finding.name.startswith(COTANGENT):
        return gradients and given
    return not (gradients or given or finding.name == LOSSES or finding.name.startswith(AFTER))


def unseen_layers(comparison: Comparison) -> list[str]:
    """Layers none of whose tensors, nor of those inside them, is among theirs."""
    rows = [f for f in comparison.findings if _counts(f, False)]
    seen = {layer for f in rows if f.verdict != "missing" for layer in _layers(f.name)}
    missing = dict.fromkeys(layer for f in rows for layer in _layers(f.name) if layer not in seen)
    return [name for name in missing if name.rpartition(".")[0] not in missing]


def _layers(name: str) -> Iterator[str]:
    parts = name.split(".")
    for i in range(1, len(parts)):
        yield ".".join(parts[:i])


def verdict_of(comparison: Comparison) -> str:
    """ "right", "wrong", or "undecided": nothing is wrong, but too little was given to tell."""
    if comparison.passed:
        return RIGHT
    return WRONG if comparison.first is not None else UNDECIDED


# ── everything ───────────────────────────────────────────────────────────────────────────────────


def data_of(
    truth: Trace, comparison: Comparison, diagnosis: Diagnosis | None, command: str = ""
) -> dict[str, Any]:
    """All that a comparison found, for JSON. command: what makes it again"""
    rows = [f for f in comparison.findings if f.verdict != "missing"]
    return {
        "format": FORMAT,
        "minswin": VERSION,
        "command": command,
        "model": truth.header.get("model", ""),
        "settings": dict(truth.header.get("overrides", {})),
        "verdict": verdict_of(comparison),
        "rests on": {
            "values": coverage(comparison)._asdict(),
            "gradients": coverage(comparison, gradients=True)._asdict(),
            "layers not seen": unseen_layers(comparison),
            "theirs that are none of ours": list(comparison.unused),
            "lines of the map without a tensor": list(comparison.absent),
        },
        "cannot be told apart from": [
            {"mistake": h.edit.words, "place": h.edit.place, "diff": h.edit.diff}
            for h in (comparison.doubts.alike if comparison.doubts is not None else ())
        ],
        "first": _first(truth, comparison.first),
        "diagnosis": _diagnosis(diagnosis),
        "tensors": [_row(f) for f in rows],
        "missing": [f.name for f in comparison.findings if f.verdict == "missing"],
    }


def _row(f: Finding) -> dict[str, Any]:
    return {
        "name": f.name,
        "theirs": f.theirs,
        "note": f.note,
        "shape": list(f.shape),
        "verdict": f.verdict,
        "good": f.verdict in GOOD,
        "judged against": f.given,
        "absolute": _number(f.absolute),
        "relative": _number(f.relative),
        "cosine": _number(f.cosine),
        "ulps": _number(f.ulps),
        "of limit": _number(f.off),
        "limit": _number(f.limit),
    }


def _number(x: float) -> float | None:
    """None for what JSON has no word for: an error that no limit allows, or no number."""
    return float(x) if math.isfinite(x) else None


def _first(truth: Trace, finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    step = finding.step
    return {
        **_row(finding),
        "place": place_of(step.name) or step.name,
        "index": list(finding.worst),
        "where": describe(step, finding.worst, truth.steps),
        "formula": step.formula,
        "our line": f"{step.line}   {step.code}".strip(),
        "made of": list(step.inputs),
    }


def _diagnosis(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    if diagnosis is None:
        return None
    causes = [
        {
            "words": cause.name,
            "place": cause.place,
            "diff": cause.diff.splitlines(),
            "remedy": cause.remedy,
            "threads": list(cause.threads),
            "explains": cause.explains,
            "also": cause.also,
            "of": cause.of,
            "the same": [" ".join(other.split()) for other in cause.others],
        }
        for cause in diagnosis.causes
    ]
    return {
        "causes": causes,
        "observations": list(diagnosis.observations),
        "tried": diagnosis.tried,
        "unfinished": diagnosis.unfinished,
    }


def write_json(file: Path | str, data: dict[str, Any]) -> None:
    """Write the data whole, or leave the old file."""
    with replacing(file, who="compare") as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")

"""A comparison as text: the rows around the first divergence, what and where it is, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from minswin.crosscheck.align import losses_of
from minswin.crosscheck.bounds import reason
from minswin.crosscheck.compare import ROUNDING, Comparison, Finding
from minswin.crosscheck.diagnose import Cause, Diagnosis
from minswin.crosscheck.doubts import Doubts
from minswin.crosscheck.folder import AFTER, COTANGENT, LOSSES, Trace
from minswin.crosscheck.recording import Step
from minswin.crosscheck.results import coverage, unseen_layers
from minswin.crosscheck.where import describe, place_of

BEFORE, BEHIND = 5, 3  # rows that are shown before and behind the first divergence
ALIKE = 8  # mistakes that are told of those that half precision hides
WIDEST = 5  # where nothing is wrong: so many of the largest errors
HEAD = (
    f"{'tensor':44} {'shape':>15} {'abs. error':>10} {'relative':>9} {'cosine':>9} {'ULPs':>8} "
    f"{'of limit':>9}  verdict"
)


def report(
    truth: Trace,
    comparison: Comparison,
    diagnosis: Diagnosis | None,
    *,
    every: bool = False,
    command: str = "",
) -> str:
    """The whole answer of `minswin compare`. command: what makes it again"""
    lines = [HEAD, *_rows(comparison, every), "", *_summary(comparison)]
    losses = comparison.aligned.get(LOSSES)
    if losses is not None:
        lines += ["", *_losses(truth, losses.array)]
    if comparison.first is not None:
        lines += ["", *_first(comparison.first, truth.steps)]
    if diagnosis is not None:
        lines += ["", *_why(diagnosis)]
    lines += ["", *_rests_on(comparison)]
    lines += [f"  again     {command}"] if command else []
    return "\n".join(lines)


# ── the table ────────────────────────────────────────────────────────────────────────────────────


def _rows(comparison: Comparison, every: bool) -> Iterator[str]:
    shown = [f for f in comparison.findings if f.verdict != "missing"]
    first = comparison.first
    if every:
        yield from (_marked(f, first) for f in shown)
    elif first is None:
        yield from map(row, sorted(shown, key=lambda f: -f.off)[:WIDEST])
        if len(shown) > WIDEST:
            yield f"… {len(shown) - WIDEST} more, all farther below their limits; --all shows them"
    else:
        at = next(i for i, f in enumerate(shown) if f is first)
        start, end = max(at - BEFORE, 0), at + BEHIND + 1
        if start:
            yield f"… {_tensors(start)} before, nothing wrong with them"
        yield from (_marked(f, first) for f in shown[start:end])
        if end < len(shown):
            yield f"… {_tensors(len(shown) - end)} behind; --all shows them"


def _tensors(count: int) -> str:
    return f"{count} tensor{'s' * (count != 1)}"


def _marked(f: Finding, first: Finding | None) -> str:
    return row(f) + ("   ◀── the first divergence" if f is first else "")


def row(f: Finding) -> str:
    shape = "×".join(map(str, f.shape)) or "number"
    off = f"{f.off:9.2g}" if math.isfinite(f.off) else f"{'limit 0':>9}"
    numbers = f"{f.absolute:10.1e} {f.relative:9.1e} {f.cosine:9.6f} {f.ulps:8.2g} {off}"
    note = f" ({f.note})" if f.note else ""
    return f"{f.name:44} {shape:>15} {numbers}  {f.verdict}{note}"


def _summary(comparison: Comparison) -> Iterator[str]:
    counts = Counter(f.verdict for f in comparison.findings)
    compared = sum(n for verdict, n in counts.items() if verdict != "missing")
    said = ", ".join(f"{n} {v}" for v, n in counts.items() if v != "missing")
    yield f"{_tensors(compared)} compared: {said}"
    if counts["follows"]:
        yield "  follows: not equal to ours, but right for what came in; the cause is further up"
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
    if doubts.alike:
        yield "At this precision right cannot be told apart from:"
    for h in doubts.alike[:ALIKE]:
        yield f"  · {h.edit.words}   [{h.edit.place}]"
        yield from (f"      {line}" for line in h.edit.diff.splitlines() if line[0] == "+")
    if len(doubts.alike) > ALIKE:
        yield f"  · and {len(doubts.alike) - ALIKE} more; in float32 all of them show"


def _rests_on(comparison: Comparison) -> Iterator[str]:
    """How much of the model the verdict rests on."""
    yield "The verdict rests on"
    for word, gradients in (("values", False), ("gradients", True)):
        c = coverage(comparison, gradients=gradients)
        if not c.seen:
            yield f"  {word:9} none of {c.of}"
            continue
        judged = {"their own inputs": c.by_inputs, "earlier tensors": c.by_earlier}
        ways = [f"{n} by {way}" for way, n in judged.items() if n]
        ways += [f"{c.by_truth} against ours"] if c.by_truth else []
        yield (
            f"  {word:9} {c.seen} of {c.of} seen ({c.by_name} by name, {c.by_value} by their "
            f"values); judged: {', '.join(ways)}"
        )
    if layers := unseen_layers(comparison):
        more = f", … ({len(layers)})" if len(layers) > 4 else ""
        yield f"  not seen  {', '.join(layers[:4])}{more}; what they hide shows later on"


# ── the losses ───────────────────────────────────────────────────────────────────────────────────


def _losses(truth: Trace, theirs: np.ndarray) -> Iterator[str]:
    """Loss by loss, before the first optimizer step and after each; then those of the mean."""
    ours = next(iter(losses_of(truth, next(iter(truth.arrays))).values()))
    yield f"{'optimizer steps':>15} {'our loss':>12} {'theirs':>12} {'difference':>11}"
    steps = truth.header["optimizer"]["steps"]
    for i, (a, b) in enumerate(zip(ours, np.ravel(theirs), strict=False)):
        step = str(i) if i <= steps else f"{i - steps}, the mean"
        yield f"{step:>15} {a:12.8f} {b:12.8f} {b - a:11.1e}"


# ── the first divergence ─────────────────────────────────────────────────────────────────────────


def _first(finding: Finding, steps: Mapping[str, Step]) -> Iterator[str]:
    step = finding.step
    yield f"First divergence: {_title(finding)}"
    if finding.given != ROUNDING and (finding.worst or finding.verdict == "wrong"):
        yield f"  where     {describe(step, finding.worst, steps) or 'it is one number'}"
    if finding.verdict == "wrong":
        yield f"  how much  {_how_much(finding)}"
        yield f"  judged    against {_given(finding)}"
    else:
        yield f"  how       {finding.note}"
    if step.formula:
        yield f"  formula   {step.formula}"
    if step.line:
        yield f"  our line  {step.line}   {step.code}"
    if step.inputs:
        yield f"  made of   {', '.join(step.inputs)}"


def _title(finding: Finding) -> str:
    title = (place_of(finding.step.name) or finding.step.name) + f"  [{finding.name}]"
    if finding.name.startswith(COTANGENT):
        return (
            f"the gradient of the loss by {title}\n"
            "  all values that were paired are right, and all gradients nearer to the loss"
        )
    if finding.name.startswith(AFTER):
        return f"after the optimizer's steps, {title}; values and gradients are right"
    return title


def _how_much(finding: Finding) -> str:
    if finding.given == ROUNDING:
        return f"{finding.off:.2g} times what rounding gives there, which has another direction"
    if not math.isfinite(finding.off):
        return "any difference is too much: this step only moves numbers, or was given"
    return f"{finding.off:,.0f} times the limit ({_reason(finding)})"


def _reason(finding: Finding) -> str:
    if finding.given == "its own inputs":
        return reason(finding.step.op)
    return "16 times what our own pass in float32 is off there"


def _given(finding: Finding) -> str:
    if finding.given == "its own inputs":
        return "what follows from its own inputs: the mistake is in this step"
    if finding.given == "earlier tensors":
        return "what follows from their nearest earlier tensors: the mistake lies in between"
    if finding.given == ROUNDING:
        return "what rounding does, and what likely mistakes would do"
    return "our value, in float64"


# ── the cause ────────────────────────────────────────────────────────────────────────────────────


def _why(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.named:
        several = len(diagnosis.causes) > 1
        yield "Diagnosis: " + (
            "each of these mistakes gives exactly their numbers; more tensors would tell them apart"
            if several
            else "this mistake gives exactly their numbers"
        )
        for cause in diagnosis.causes:
            yield from _cause(cause)
        return
    if diagnosis.tried:
        yield f"Diagnosis: none of {diagnosis.tried:,} small edits of our text gives this"
        if diagnosis.unfinished:
            yield "  the time ran out before all were tried; --seconds gives it more"
    elif diagnosis.observations:
        yield "Diagnosis:"
    else:
        yield "Diagnosis: none is possible here; see 'how' above"
    for line in diagnosis.observations:
        yield f"  · {line}"


def _cause(cause: Cause) -> Iterator[str]:
    yield f"  ✗ {cause.name}   [{cause.place}]"
    for line in cause.diff.splitlines():
        yield f"      {line}"
    if cause.remedy:
        yield f"    remedy    {cause.remedy}"
    if cause.threads:
        yield f"    met in    {', '.join(cause.threads)}"
    if cause.also:
        yield f"    also      gives {cause.also}"
    if cause.others:
        yield f"    the same  {'; '.join(' '.join(o.split()) for o in cause.others)}"

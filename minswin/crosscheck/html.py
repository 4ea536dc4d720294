"""The data of a comparison as one page of HTML, which needs nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from minswin.crosscheck.report import link
from minswin.crosscheck.results import COLUMNS, Data, cells, lines_of_cause, lines_of_first, summary

__all__ = ["page_of"]

CODE = ("formula", "our line", "made of")  # lines that are code
TITLES = {
    "right": "No divergence",
    "wrong": "First divergence",
    "undecided": "Undecided: too little could be paired to say that nothing is wrong",
}
STYLE = """
:root { color-scheme: light dark; --ink: #1d1f24; --pale: #5f6672; --paper: #fcfcfa;
  --card: #f1f1ec; --line: #d9d9d2; --good: #2b7a4b; --bad: #b3261e; --odd: #8a6100;
  --minus: #fbe3e0; --plus: #ddf1e3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e2; --pale: #9ba1ab; --paper: #16181c;
  --card: #1f2227; --line: #363a41; --good: #6fcf97; --bad: #ff8a80; --odd: #e5b454;
  --minus: #43211f; --plus: #193626; } }
body { margin: 0 auto; max-width: 74rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; }
h3 { font-size: 1rem; margin: .8rem 0 .2rem; }
h1.right { color: var(--good); } h1.wrong { color: var(--bad); } h1.undecided { color: var(--odd); }
code, pre, td, th { font-family: ui-monospace, monospace; font-size: .84rem; }
section { background: var(--card); border-radius: .6rem; padding: .2rem 1.2rem 1rem;
  margin: 1.2rem 0; }
pre { overflow-x: auto; padding: .7rem; margin: .6rem 0; background: var(--paper);
  border-radius: .4rem; white-space: pre-wrap; }
pre span { display: block; padding: 0 .3rem; } .minus { background: var(--minus); }
.plus { background: var(--plus); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: .8rem 0 0; }
dt { color: var(--pale); } dd { margin: 0; overflow-wrap: anywhere; }
.strip { display: flex; flex-wrap: wrap; gap: 2px; margin: .8rem 0; }
.strip a { width: .7rem; height: 1.2rem; border-radius: 2px; background: var(--good); }
.strip a.bad { background: var(--bad); } .strip a.follows { background: var(--odd); }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--pale); font-weight: 500; }
td, th { padding: .22rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number { text-align: right; } tr.bad td { color: var(--bad); }
tr.follows td { color: var(--odd); } tr.first td { background: var(--minus); }
tr:target td { outline: 2px solid var(--ink); outline-offset: -2px; }
td.note { white-space: normal; color: var(--pale); min-width: 12rem; }
.bar { display: inline-block; height: .55rem; border-radius: 2px; background: currentColor;
  opacity: .55; } footer, .pale { color: var(--pale); } a { color: inherit; }
"""


def page_of(data: Data) -> str:
    """The page of `results.data_of`."""
    title, first = TITLES[data["verdict"]], data["first"]
    place = f": {first['place']}" if first else ""
    body = [
        f'<h1 class="{data["verdict"]}">{escape(title + place)}</h1>',
        f'<p class="pale">{escape(_model(data))}</p>',
        *_strip(data["tensors"]),
        f"<pre>{escape(chr(10).join(summary(data)))}</pre>",
        *(_first(first) if first else ()),
        *(_diagnosis(data["diagnosis"]) if data["diagnosis"] else ()),
        *_rests_on(data["rests on"]),
        *_table(data["tensors"], first),
        *_again(data),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _model(data: Data) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in data["settings"].items())
    model = data["model"] or "a model that a program built"
    return f"{model}{f' with {settings}' if settings else ''}, held against minswin's definitions"


def _kind(row: Data) -> str:
    return "follows" if row["verdict"] == "follows" else "" if row["good"] else "bad"


def _strip(rows: list[Data]) -> Iterator[str]:
    """All tensors in their order, a small field each."""
    fields = "".join(
        f'<a class="{_kind(row)}" href="#{_anchor(row)}" title="{escape(row["name"])}: '
        f'{escape(row["verdict"])}"></a>'
        for row in rows
    )
    yield f'<div class="strip" aria-label="all tensors in the order of the pass">{fields}</div>'
    yield (
        '<p class="pale">A field for each tensor, in the order of the pass: green is right, amber '
        "follows from what is wrong before it, red is wrong by itself.</p>"
    )


def _anchor(row: Data) -> str:
    return escape("t-" + row["name"].replace("/", "-"))


def _pairs(rows: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{a}</dt><dd>{b}</dd>" for a, b in rows.items() if b) + "</dl>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>" if text else ""


def _first(first: Data) -> Iterator[str]:
    rows = {
        "tensor": f'<a href="#{_anchor(first)}">{_code(first["name"])}</a>',
        "theirs": _code(first["theirs"]),
    }
    for word, text in lines_of_first(first).items():
        rows[word] = _code(text) if word in CODE else escape(text)
    yield f"<section><h2>The first wrong tensor</h2>{_pairs(rows)}</section>"


def _diagnosis(found: Data) -> Iterator[str]:
    yield "<section><h2>Diagnosis</h2>"
    if claim := found["claim"]:
        more = "; the time ran out before all were tried" if found["unfinished"] else ""
        yield f"<p>{escape(claim[0].upper() + claim[1:] + more)}.</p>"
    for cause in found["causes"]:
        doubt = "" if cause["sure"] else "Perhaps: "
        yield f"<h3>{doubt}{escape(cause['words'])}</h3>{_code(cause['place'])}"
        if cause["diff"]:
            lines = (f'<span class="{_sign(line)}">{escape(line)}</span>' for line in cause["diff"])
            yield f"<pre>{''.join(lines)}</pre>"
        links = (f'<a href="{escape(link(t))}">{escape(t)}</a>' for t in cause["threads"])
        rows = {word: escape(text) for word, text in lines_of_cause(cause).items()}
        yield _pairs({**rows, "met in": ", ".join(links)})
    if found["observations"]:
        yield f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in found['observations'])}</ul>"
    yield "</section>"


def _sign(line: str) -> str:
    return {"-": "minus", "+": "plus"}.get(line[:1], "")


def _rests_on(rests: Data) -> Iterator[str]:
    rows = {word: escape(rests[word]["in words"]) for word in ("values", "gradients")}
    for word in (
        "layers not seen",
        "theirs that are none of ours",
        "lines of the map without a tensor",
    ):
        rows[word] = ", ".join(map(_code, rests[word][:40])) + " …" * (len(rests[word]) > 40)
    yield f"<section><h2>What the verdict rests on</h2>{_pairs(rows)}</section>"


def _table(rows: list[Data], first: Data | None) -> Iterator[str]:
    heads = ("tensor", "verdict", "shape", *(head for head, _, _ in COLUMNS.values()), "", "")
    yield '<h2>All tensors, in the order of the pass</h2><div class="table"><table><thead><tr>'
    yield "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead><tbody>"
    for row in rows:
        marks = _kind(row) + (" first" if first and row["name"] == first["name"] else "")
        shape, *numbers = cells(row)
        yield (
            f'<tr id="{_anchor(row)}" class="{marks.strip()}"><td>{escape(row["name"])}</td>'
            f"<td>{escape(row['verdict'])}</td><td>{shape}</td>"
            + "".join(f'<td class="number">{x}</td>' for x in numbers)
            + f'<td><span class="bar" style="width: {_width(row):.2f}rem"></span></td>'
            f'<td class="note">{escape(row["note"])}</td></tr>'
        )
    yield "</tbody></table></div>"


def _width(row: Data) -> float:
    """Of the bar: 0 at a ten-thousandth of the limit, 2 at the limit, 4 at ten thousand times."""
    if row["of limit"] is None:
        return 4.0
    return min(max(2 + math.log10(row["of limit"]) / 2, 0), 4) if row["of limit"] else 0.0


def _again(data: Data) -> Iterator[str]:
    if data["command"]:
        yield f"<section><h2>To make this again</h2><pre>{escape(data['command'])}</pre></section>"
    yield f"<footer>minswin {escape(data['minswin'])}</footer>"

"""The report of a comparison as one page of HTML, which needs nothing beside it.

The sections are those of the terminal; below them stands a table of all tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from html import escape

from minswin.crosscheck.report import link
from minswin.crosscheck.results import COLUMNS, Data, cells, sections

__all__ = ["page_of"]

TITLES = {
    "right": "No divergence",
    "wrong": "First divergence",
    "undecided": "Undecided: too little could be paired to say that nothing is wrong",
}
NAMES = ("layers not seen", "theirs that are none of ours", "lines of the map without a tensor")
MOST = 40  # names of a list
THREAD = re.compile(r"[\w.-]+/[\w.-]+#\d+")
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
h1.right { color: var(--good); } h1.wrong { color: var(--bad); } h1.undecided { color: var(--odd); }
pre, td, th { font-family: ui-monospace, monospace; font-size: .84rem; }
pre { overflow-x: auto; padding: .7rem 1.2rem; background: var(--card); border-radius: .6rem; }
.minus { background: var(--minus); } .plus { background: var(--plus); }
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
    title, rests = TITLES[data["verdict"]], data["rests on"]
    body = [
        *_head(data, title),
        *_strip(data["tensors"]),
        *(f"<pre>{''.join(map(_marked, text.splitlines(True)))}</pre>" for text in sections(data)),
        *(f"<p>{name}: {_listed(rests[name])}</p>" for name in NAMES if rests[name]),
        *_table(data["tensors"], data["first"]),
        f"<footer>minswin {escape(data['minswin'])}</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _head(data: Data, title: str) -> Iterator[str]:
    first = data["first"]
    place = f': <a href="#{_anchor(first)}">{escape(first["place"])}</a>' if first else ""
    yield f'<h1 class="{data["verdict"]}">{escape(title)}{place}</h1>'
    settings = ", ".join(f"{name}={value}" for name, value in data["settings"].items())
    model = data["model"] or "a model that a program built"
    model += f" with {settings}" if settings else ""
    model += ", held against minswin's definitions"
    if first and first["theirs"] != first["name"]:
        model += f"; the first wrong tensor is their {first['theirs']}"
    yield f'<p class="pale">{escape(model, quote=False)}</p>'


def _marked(line: str) -> str:
    """A line of the report: what an edit takes away and adds in its colour, threads as links."""
    kind = {"      -": "minus", "      +": "plus"}.get(line[:7])
    text = escape(line)
    if line.startswith("    met in"):
        text = THREAD.sub(lambda found: f'<a href="{link(found[0])}">{found[0]}</a>', text)
    return f'<span class="{kind}">{text}</span>' if kind else text


def _listed(names: list[str]) -> str:
    return escape(", ".join(names[:MOST])) + " …" * (len(names) > MOST)


def _kind(row: Data) -> str:
    return "follows" if row["verdict"] == "follows" else "" if row["good"] else "bad"


def _anchor(row: Data) -> str:
    return escape("t-" + row["name"].replace("/", "-"))


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

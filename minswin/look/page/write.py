"""One page about a model and a picture: a single .html file that needs nothing else.

Template page.html, style page.css, programs engine.js and those of PROGRAMS; where engine.js knows
the family and the weights fit, the page runs the model, otherwise it holds recorded values.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from minswin.look import planes
from minswin.look.attention import attention_maps
from minswin.look.page import tokens, words
from minswin.look.page.data import moved_by_float16, page_data, recorded
from minswin.look.page.subject import Subject
from minswin.look.page.weights import runs_in_the_page
from minswin.models import VisionTransformer
from minswin.replacing import replacing

FOLDER = Path(__file__).parent
LARGEST = 4_900_000  # bytes of a page
PROGRAMS = (
    *("numbers", "source", "explorer", "picture", "heads"),
    *("arithmetic", "motion", "article", "main"),
)


def write_page(subject: Subject, path: Path | str) -> Path:
    """Write the page about a subject to an .html file.

    Recorded attention takes what the rest of the page leaves of LARGEST bytes.
    """
    records, live = attention_maps(subject.model, subject.x), runs_in_the_page(subject.model)
    data = page_data(subject, records)
    if not live:
        around = len(_page(subject, {**data, **recorded(subject, records, 0)}))
        data |= recorded(subject, records, LARGEST - around)
    page = _page(subject, data)
    with replacing(path, who="explain") as temporary:
        temporary.write_bytes(page)
    return Path(path)


def _page(subject: Subject, data: dict[str, Any]) -> bytes:
    """The whole page. What no text can be, in the name of a file, becomes a question mark."""
    slots = {
        **_sentences(subject, data),
        **{f"line:{name}": words.code_line(name) for name in words.QUOTES},
        "line:tokens": words.code_line(tokens.quote(subject.model)),
        "style": _file("page.css"),
        "engine": _file("engine.js"),
        "program": "\n".join(_file(f"{name}.js") for name in PROGRAMS),
        "data": _text(data),
    }
    page = re.sub(r"\{\{([\w:]+)\}\}", lambda slot: slots[slot[1]], _file("page.html"))
    return page.encode("utf-8", "replace")


def _sentences(subject: Subject, data: dict[str, Any]) -> dict[str, str]:
    """Text that depends on the model."""
    model, cost, live = subject.model, subject.cost, data["weights"] is not None
    name, picture = model.name, subject.samples[0].name
    vit = isinstance(model, VisionTransformer)
    return {
        "title": html.escape(f"How {name} sees {picture}"),
        "heading": words.heading(subject, live),
        "lead": words.lead(subject, live),
        "recorded": ""
        if live
        else words.about_recording(model, data["left_out"], data["heads_left_out"]),
        "tokens": tokens.about_tokens(model),
        "formula:tokens": tokens.formula(model),
        "walls": tokens.about_walls(model),
        "cost_channels": str(cost.C),
        "cost_window": str(cost.M),
        "measured": words.measured(cost.whole, cost.windows, cost.patch),
        "positions": words.about_positions(model.positions) if vit else "",
        "pooled": words.about_pooling(model),
        "worth": words.about_worth(subject),
        "points": words.about_points(subject, planes.available_methods()),
        "footer": words.footer(moved_by_float16(model, subject.x) if live else None),
    }


def _file(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def _text(data: dict[str, Any]) -> str:
    """Data as JSON, such that no text in it can end the element that it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")

"""One page that shows what a model does with an image: pictures, and attention to point at.

The page is a single file: template report.html, program report.js, pictures as text inside.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from minswin.look.attention import attention_maps
from minswin.look.page.explorer import explorer_data
from minswin.look.page.sections import sections
from minswin.look.page.sections_attention import explored
from minswin.look.page.subject import Section, Subject, pixels_as_uri
from minswin.replacing import replacing

FOLDER = Path(__file__).parent
LARGEST = 4_900_000  # bytes of a page; some thousand more where attention is pointed at


def write_report(subject: Subject, path: Path | str) -> Path:
    """Write the page about a subject to an .html file; it needs nothing else.

    The pictures are drawn first: attention to point at takes what they leave of LARGEST bytes.
    """
    seen = attention_maps(subject.model, subject.x)
    parts = sections(subject, seen)
    image: dict[str, Any] = {"size": subject.size, "image": pixels_as_uri(subject.pixels)}
    around = len(_page(subject, parts, {**explorer_data(seen, budget=0), **image}))
    data = explorer_data(seen, budget=LARGEST - around)
    page = _page(subject, parts, {**data, **image} if data["blocks"] else data)
    with replacing(path, who="explain") as temporary:
        temporary.write_bytes(page)
    return Path(path)


def _page(subject: Subject, parts: list[Section], data: dict[str, Any]) -> bytes:
    """The whole page. What no text can be, in the name of a file, becomes a question mark."""
    parts = [_with_explorer(part, data) for part in parts]
    page = (FOLDER / "report.html").read_text("utf-8")
    slots = {
        "contents": "\n".join(_entry(i, part) for i, part in enumerate(parts, 1)),
        "lead": _lead(subject),
        "sections": "\n".join(_section(i, part) for i, part in enumerate(parts, 1)),
        "data": _text(data),
        "script": (FOLDER / "report.js").read_text("utf-8"),
        "title": html.escape(f"How {subject.model.name} sees {subject.image}"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda slot: slots[slot[1]], page)  # in one pass
    return page.encode("utf-8", "replace")


def _with_explorer(part: Section, data: dict[str, Any]) -> Section:
    """Attention to point at comes before the pictures of its section."""
    return part._replace(body=explored(data) + part.body) if part.key == "attention" else part


def _entry(number: int, part: Section) -> str:
    return f'<li><a href="#{part.key}">{number}&ensp;{part.title}</a></li>'


def _section(number: int, part: Section) -> str:
    return (
        f'<section id="{part.key}">\n<h2><span class="number">{number}</span>{part.title}</h2>\n'
        f"{part.body}\n</section>"
    )


def _lead(subject: Subject) -> str:
    best = int(np.argmax(subject.probabilities))
    answer, share = html.escape(subject.classes[best]), subject.probabilities[best]
    parameters = subject.model.parameter_count()
    lines = [
        f'<p class="lead">{html.escape(subject.origin)}; {parameters:,} parameters. '
        f"Its answer: <strong>{answer}</strong>, {share:.1%}.</p>"
    ]
    if not subject.trained:
        lines.append(
            '<p class="note">The weights are random, for none were given. Shapes, windows, masks, '
            "receptive fields and cost are those of the model; attention, biases, features and the "
            "answer mean nothing yet.</p>"
        )
    return "\n".join(lines)


def _text(data: dict[str, Any]) -> str:
    """What report.js reads, such that no text in it can end the element that it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")

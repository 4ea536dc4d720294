"""One page that shows what a model does with an image: pictures, and attention to point at.

The page is a single file: template report.html, program report.js, pictures as text inside.
"""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path

import numpy as np

from minswin.look.attention import Attention, attention_maps
from minswin.look.explorer import explorer_data
from minswin.look.sections import sections
from minswin.look.subject import Section, Subject, pixels_as_uri

FOLDER = Path(__file__).parent


def write_report(subject: Subject, path: Path | str) -> Path:
    """Write the page about a subject to an .html file; it needs nothing else."""
    seen = attention_maps(subject.model, subject.x)
    parts = sections(subject, seen)
    page = (FOLDER / "report.html").read_text("utf-8")
    slots = {
        "contents": "\n".join(_entry(i, part) for i, part in enumerate(parts, 1)),
        "lead": _lead(subject),
        "sections": "\n".join(_section(i, part) for i, part in enumerate(parts, 1)),
        "data": _data(subject, seen),
        "script": (FOLDER / "report.js").read_text("utf-8"),
        "title": html.escape(f"How {subject.model.name} sees {subject.image}"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda slot: slots[slot[1]], page)  # in one pass
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page, "utf-8")
    os.replace(temporary, path)
    return path


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


def _data(subject: Subject, seen: list[Attention]) -> str:
    """What report.js reads, such that no text in it can end the element that it stands in."""
    data = {**explorer_data(seen), "size": subject.size, "image": pixels_as_uri(subject.pixels)}
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")

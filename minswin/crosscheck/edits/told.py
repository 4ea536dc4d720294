"""Edited texts in our words: the helpers of helpers.py written out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from minswin.crosscheck.edits.helpers import SAID


def said(text: str) -> str:
    """A text with the helpers in it written out, as a reader of our own code would write them."""
    text = text.replace("e_before", "before")
    while (call := re.search(r"\b(e_[a-z_]+)\(", text)) is not None:
        *parts, end = _arguments(text, call.end())
        if not end:  # it goes on in a line that is not shown
            rest = text[call.start() + len("e_") :]
            text = text[: call.start()] + re.sub(r"\be_([a-z_]+)\b(?!\()", r"\1", rest)
            continue
        says = SAID[call[1]]
        parts = [said(part) for part in parts]
        new = says(*parts) if callable(says) else says.format(*parts)
        text = text[: call.start()] + new + text[int(end) :]
    return text


def _arguments(text: str, at: int) -> Iterator[str]:
    """The arguments of the call whose bracket was opened in front of `at`, then where it ends.

    "" where it does not end.
    """
    depth, start = 0, at
    for i in range(at, len(text)):
        if (text[i] in ")]}" and not depth) or (text[i] == "," and not depth):
            yield text[start:i].strip()
            start = i + 1
            if text[i] != ",":
                yield str(i + 1)
                return
        depth += (text[i] in "([{") - (text[i] in ")]}")
    yield ""

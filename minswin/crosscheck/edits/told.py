"""Edited texts in our words: the helpers of helpers.py written out."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

OTHERWISE = {"'sigmoid'": "sigmoid", "'log'": "log_softmax"}
SAID: dict[str, str | Callable[..., str]] = {
    "e_swapped": "{}.swapaxes({}, {})",
    "e_reread": "{0}.swapaxes({1}, {2}).reshape({0}.shape)",
    "e_written": "{0}.reshape(axes {1} and {2} exchanged).swapaxes({1}, {2})",
    "e_along": lambda f, i, *x: f"{f}({', '.join(x)}) along axis 0, not {i}",
    "e_interleaved": "{0}.reshape(…, {1}, -1).swapaxes(-1, -2).reshape({0}.shape)",
    "e_rolled": "roll({}, {}, axis={})",
    "e_flipped": "flip({}, axis={})",
    "e_first_for_all": "{}.take([0], axis={})",
    "e_without": lambda x, i, last: f"{x}[{':, ' * int(i)}{':-1' if last == 'True' else '1:'}]",
    "e_zeroed": lambda x, i, n: f"({x} with {':, ' * int(i)}{n} set to 0)",
    "e_half": "{}.astype(float16)",
    "e_brain": "{}.astype(bfloat16)",
    "e_normalized": "({} - mean) / std",
    "e_unary": lambda x, name: f"{name[1:-1]}({x})",
    "e_reduced": lambda x, name, *more: f"{x}.{name[1:-1]}({', '.join(more)})",
    "e_softmax": lambda x, i, *other: (
        f"{OTHERWISE[other[0]]}({x})"
        if other and other[0] in OTHERWISE
        else f"softmax({x}, axis={i})" + (" with one more key of logit 0" if other else "")
    ),
    "e_clipped": lambda x, low, high: (
        f"relu({x})" if (low, high) == ("0", "np.inf") else f"clip({x}, {low}, {high})"
    ),
    "e_unmasked": "({}, 0 where it is masked)",
    "e_padded": lambda f, before, *more: (
        f"{f}({', '.join(more)}) with {'none' if before == '0' else before} of the padding in front"
    ),
    "e_masked_late": lambda f, x, add: (
        f"{f}({x} without its mask)" + (" + mask" if add == "True" else ", 0 where it is masked")
    ),
    "e_far_apart": "{0}.reshape(…, {2}, -1, {3}, -1, …).swapaxes(…).reshape({0}.shape)",
    "e_causal": lambda x, *other: f"{x} where key {'≥' if other else '≤'} query, else −∞",
    "e_as_shape": "{}.reshape({}.shape)",
    "e_bump": lambda t, i, d: f"({'…, ' * int(i)}{t}[{i}] {d[0] if d[0] == '-' else '+'} 1, …)",
    "e_cast": lambda f, to, x, *more: said(f"{to}({f}({', '.join((f'{to}({x})', *more))}))"),
    "e_free": lambda x: f"c * ({x})" if _is_a_sum(x) else f"c * {x}",
    "e_clamped": "clip({}.grad, ±{})",
    "e_detached": "{}.detach()",
    "e_pulled": "({}, its gradient times c)",
}


def _is_a_sum(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, (ast.BinOp, ast.UnaryOp))
    except SyntaxError:
        return True


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

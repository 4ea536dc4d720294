"""A function by itself, on what it got in the right run: edits that give the same there are one.

An edit that raises there raises in the layer too, and one that gives what the right text gives, or
another edit gave, need not be run any further: the rest of the layer gets the same from it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from hashlib import blake2b
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from minswin.around import surroundings
from minswin.autograd import Tensor
from minswin.crosscheck.edits.functions import forget, watched
from minswin.crosscheck.edits.texts import Text
from minswin.crosscheck.ground import content, limited
from minswin.crosscheck.replay import Call, Span, Tape
from minswin.crosscheck.site import REFERENCE, Site, stubs

VJPS = ("vjp", "<lambda>")
LARGE = 3  # a function that makes more than this part of all calls is run with the rest


class Alone:
    """The calls of functions that have returned before the tensor of a site is there.

    Of them those count that gave arrays and plain values, and in which nothing of theirs is put in
    the place of ours: definitions on arrays, and where layers give all of theirs also other texts.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.tape = Tape(site)
        given = self._watched()
        for call in (call for calls in self.tape.spans.values() for call in calls):
            for x in _arrays_of([*call.inputs, *call.settings.values()]):
                x.setflags(write=False)  # an edited text may write into what it was given
        texts = [t for t in site.texts if t.right[0] in given]
        self.right = {c: given[c] for t in texts if self._run(t) == given[c := t.right[0]]}

    def told(self, text: Text) -> bytes | None:
        """What the function, as it is now, gives in its calls; None where that says nothing."""
        f, (code, *defaults) = text.function, text.right
        same = code in self.right and [f.__defaults__, f.__kwdefaults__] == defaults
        return self._run(text) if same and surroundings() is None else None

    def _run(self, text: Text) -> bytes | None:
        told = blake2b(text.name.encode(), digest_size=16)
        try:
            with limited(), np.errstate(all="ignore"), self.site.looking_up():
                for call in self.tape.spans[text.right[0]]:
                    _tell(text.function(*call.inputs, **call.settings), told)
        except _Untold:
            return None
        except ValueError as error:
            if "read-only" in f"{error} {error.__cause__}":
                return None
            raise
        return told.digest()

    def _watched(self) -> dict[CodeType, bytes]:
        """Note all calls of one run; gives what is told of the functions that count."""
        texts = {t.right[0]: t for t in self.site.texts}
        plain = {c for c, t in texts.items() if t.function.__module__.startswith(REFERENCE)}
        good = {*texts} if self.site.is_of_layers else plain
        told = {c: blake2b(texts[c].name.encode(), digest_size=16) for c in good}
        paths = {id(layer): path for path, layer in self.site.ground.layers["float64"].items()}
        tape, open_calls = self.tape, []
        active = tape.active
        inner: Counter[CodeType] = Counter()  # calls inside a function

        def see(frame: FrameType, event: str, result: Any) -> None:
            code = frame.f_code
            if event == "call" and code in stubs:
                good.difference_update(active)
                tape.stubs[paths[id(frame.f_locals["self"])]] += 1
            if code not in texts:
                return
            if event == "call":
                open_calls.append(Span(code, _arguments(frame), tape))
                tape.spans.setdefault(code, []).append(open_calls[-1])
                inner.update({*active})
                active.append(code)
            elif event == "return" and active and active[-1] is code:
                active.pop()
                open_calls.pop().ends(result, tape)
                try:
                    if result is None:  # or the tensor has ended it
                        raise _Untold
                    _tell(result, told[code])
                except (_Untold, KeyError):
                    good.discard(code)

        def run() -> None:
            tape.target = self.site.value()

        self.site.repeats["float64"] = tape
        forget()  # what was kept does not run
        watched(run, see)
        most = sum(map(len, tape.spans.values())) / LARGE
        return {code: told[code].digest() for code in good if inner[code] < most}


class _Untold(Exception):
    """It is neither arrays nor plain values."""


def _tell(x: Any, told: Any) -> None:
    """Put what a function gave into a digest; of a vjp that there is one."""
    if isinstance(x, Tensor):
        told.update(b"tensor")
        x = x.data
    if isinstance(x, np.ndarray):
        told.update(f"{x.shape}{x.dtype.str}".encode())
        told.update(content(x))
    elif isinstance(x, (tuple, list)):
        told.update(f"{type(x).__name__}{len(x)}".encode())
        for part in x:
            _tell(part, told)
    elif isinstance(x, (bool, int, float, str, type(None), np.generic)):
        told.update(f"{type(x).__name__}{x!r}".encode())
    elif isinstance(x, FunctionType) and x.__name__ in VJPS:
        told.update(b"vjp")
    else:
        raise _Untold


def _arrays_of(x: Any) -> list[np.ndarray]:
    if isinstance(x, (tuple, list)):
        return [a for part in x for a in _arrays_of(part)]
    x = x.data if isinstance(x, Tensor) else x
    return [x] if isinstance(x, np.ndarray) else []


def _arguments(frame: FrameType) -> Call:
    """What a function was called with."""
    code, values = frame.f_code, frame.f_locals
    names, n = code.co_varnames, code.co_argcount
    inputs = [values[name] for name in names[:n]]
    settings = {name: values[name] for name in names[n : n + code.co_kwonlyargcount]}
    n += code.co_kwonlyargcount
    if code.co_flags & inspect.CO_VARARGS:
        inputs += values[names[n]]
        n += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        settings |= values[names[n]]
    return inputs, settings

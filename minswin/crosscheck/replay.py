"""From where an edit changes a run to its end, operation by operation, without the texts between.

The right run is kept as a tape: its operations, and the calls of our texts that they stand in.
Where a text is edited its calls run again, on what they get now, and behind them the operations
that get other arrays. Whether that is all that a text changes is asked once, with other numbers in
the place of what it gives; if not, the texts that call it are asked, and in the end the whole layer
runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from minswin.around import Run
from minswin.autograd import Tensor
from minswin.crosscheck.edits.functions import reaches
from minswin.crosscheck.edits.texts import EDITED, Text
from minswin.crosscheck.ground import limited
from minswin.crosscheck.idle import of_other_numbers
from minswin.crosscheck.site import Repeats, Site

Array = np.ndarray
Call = tuple[list[Any], dict[str, Any]]


class Unlike(Exception):
    """It gives something of another shape or kind, so what follows may go another way."""


class Operation(NamedTuple):
    definition: Any
    inputs: tuple[Any, ...]
    settings: dict[str, Any]
    result: Array


class Span:
    """A call of a text: what it got and gave, and which operations were made in it."""

    def __init__(self, code: CodeType, call: Call, tape: Tape) -> None:
        self.code, (self.inputs, self.settings) = code, call
        self.first, self.stubs = len(tape.operations), tape.stubs.copy()
        self.outside = not tape.inside  # of any operation
        self.around = [*tape.active]  # the codes of the texts that call it
        self.begin, self.ended = tape.now(), False

    def ends(self, result: Any, tape: Tape) -> None:
        self.result, self.ended = result, result is not None  # or the tensor has ended it
        self.end, self.finish = len(tape.operations), tape.now()


class Tape(Repeats):
    """The operations of the right run, and the calls in it: a step around operations."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site, self.inside, self.time = site, 0, 0
        self.operations: list[Operation] = []
        self.spans: dict[CodeType, list[Span]] = {}
        self.active: list[CodeType] = []
        self.stubs: Counter[str] = Counter()  # calls so far of layers that give theirs
        self.target: Array | None = None
        self.ways: dict[CodeType, CodeType | None] = {}  # whose calls run for an edit of a text
        self.functions = {t.right[0]: t.function for t in site.texts}
        self.touched: dict[FunctionType, set[int]] = {}

    def now(self) -> int:
        self.time += 1
        return self.time

    def __call__(
        self, go: Run, definition: Any, inputs: Sequence[Any], settings: dict[str, Any]
    ) -> Tensor:
        if not self.filling or getattr(definition, "__name__", "") == "attention":
            return super().__call__(go, definition, inputs, settings)
        self.inside += 1
        try:
            result = super().__call__(go, definition, inputs, settings)
        finally:
            self.inside -= 1
        if not self.inside:
            arrays = tuple(x.data if isinstance(x, Tensor) else x for x in inputs)
            self.operations.append(Operation(definition, arrays, dict(settings), result.data))
        return result

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def way(self, text: Text) -> CodeType | None:
        """The code whose calls run for an edit of a text: its own, or that of a text around it."""
        code = text.right[0]
        if code not in self.ways:
            outside = [s for s in self.spans.get(code, []) if s.outside]
            around = [*(outside[0].around if outside else []), code][::-1]
            with of_other_numbers(text).planted():
                self.ways[code] = next(self._that_give(around, self.site.value()), None)
        return self.ways[code]

    def _that_give(self, codes: list[CodeType], whole: Array | None) -> Iterator[CodeType]:
        """Those texts whose calls, and what is behind them, give what the whole layer does."""
        if whole is None or self.target is None or np.array_equal(whole, self.target):
            return
        for code in codes:
            with suppress(Exception):
                value = self.value([code]) if all(s.ended for s in self.spans[code]) else None
                if value is not None and np.allclose(value, whole, rtol=1e-9, atol=1e-12):
                    yield code

    def value(self, codes: Iterable[CodeType]) -> Array | None:
        """What the site gives if these texts run again, and the operations that reach edits."""
        spans = [s for code in codes for s in self.spans[code] if s.outside]
        spans.sort(key=lambda span: span.begin)
        touched = set().union(*map(self._touched, EDITED))
        new: dict[int, Array] = {}

        def go_on(at: int, end: int) -> None:
            for i in range(at, end):
                o = self.operations[i]
                if i in touched or any(id(x) in new for x in o.inputs):
                    value, _ = o.definition(*(new.get(id(x), x) for x in o.inputs), **o.settings)
                    _enter(o.result, value, new, i not in touched)

        with limited(), np.errstate(all="ignore"), self.site.looking_up():
            at, until = 0, 0
            for span in spans:
                if span.begin > until:  # no call inside of another
                    go_on(at, span.first)
                    self._call(span, new)
                    at, until = span.end, span.finish
            go_on(at, len(self.operations))
        value = new.get(id(self.target), self.target)
        return value if value is not None and np.isfinite(value).all() else None

    def _touched(self, function: FunctionType) -> set[int]:
        if function not in self.touched:
            every = enumerate(self.operations)
            self.touched[function] = {i for i, o in every if reaches(o.definition, function)}
        return self.touched[function]

    def _call(self, span: Span, new: dict[int, Array]) -> None:
        inputs = [_changed(x, new) for x in span.inputs]
        settings = {n: _changed(x, new) for n, x in span.settings.items()}
        with self.site.stubbed(span.stubs):
            _enter(span.result, self.functions[span.code](*inputs, **settings), new)


def _changed(x: Any, new: dict[int, Array]) -> Any:
    if isinstance(x, (tuple, list)):
        make = getattr(type(x), "_make", type(x))  # of a tuple whose parts have names
        return make([_changed(part, new) for part in x])
    if isinstance(x, Tensor):
        return Tensor(new[id(x.data)]) if id(x.data) in new else x
    return new.get(id(x), x) if isinstance(x, np.ndarray) else x


def _enter(right: Any, result: Any, new: dict[int, Array], other: bool = False) -> None:
    """Note what is now in the place of arrays of the right run; other: it is not the same."""
    if isinstance(right, Tensor) and isinstance(result, Tensor):
        right, result = right.data, result.data
    if isinstance(right, (tuple, list)) and len(right) == len(result):
        for x, y in zip(right, result, strict=True):
            _enter(x, y, new)
    elif isinstance(right, np.ndarray):
        if not isinstance(result, np.ndarray) or result.shape != right.shape:
            raise Unlike
        if result.dtype != right.dtype:
            raise Unlike
        if other or not np.array_equal(result, right):
            new[id(right)] = result
    elif type(right) is not type(result) or not (
        isinstance(right, FunctionType) or right == result
    ):
        raise Unlike

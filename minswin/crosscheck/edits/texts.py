"""The text of a function and edits of it, each put in its place by swapping the function's code."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from minswin.crosscheck.edits.functions import PACKAGE, forget
from minswin.crosscheck.edits.told import said

HEAD = "from __future__ import annotations\n"


EDITED: set[types.FunctionType] = set()  # those that run another text at the moment


CLOSED = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List)


def _is_closed(text: str) -> bool:
    """Whether a pair of brackets is around all of it."""
    depths = itertools.accumulate((c in "([{") - (c in ")]}") for c in text)
    return next((i for i, depth in enumerate(depths) if not depth), 0) == len(text) - 1


class Text:
    """The source of a function, and the function that edited code is put into.

    written: another function that gives the same, whose source it is
    """

    def __init__(self, function: types.FunctionType, written: Any = None) -> None:
        self.function, self.written = function, written or function
        self.right = (function.__code__, function.__defaults__, function.__kwdefaults__)
        lines, self.line = _lines_of(self.written.__code__)
        source = textwrap.dedent("".join(lines))
        start = source.index("def ")
        self.line += source[:start].count("\n")  # decorators stay on
        self.source = source[start:]
        self.name = f"{function.__module__}.{function.__qualname__}".removeprefix("minswin.")
        rows = self.source.splitlines(keepends=True)
        self._starts, self._rows = [0, *itertools.accumulate(map(len, rows))], rows

    @cached_property
    def tree(self) -> Any:
        return _tree(self.source)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        return _parents(self.source)

    def span(self, n: Any) -> tuple[int, int]:
        return self._at(n.lineno, n.col_offset), self._at(n.end_lineno, n.end_col_offset)

    def _at(self, line: int, column: int) -> int:  # columns count bytes
        return self._starts[line - 1] + len(self._rows[line - 1].encode()[:column].decode())

    def row(self, n: Any) -> tuple[int, int]:
        """The whole lines of a statement."""
        return self._starts[n.lineno - 1], self._starts[n.end_lineno]

    def of(self, n: Any) -> str:
        a, b = self.span(n)
        return self.source[a:b]

    def whole(self, n: Any) -> str:
        """The same, in brackets where it would fall apart inside another expression."""
        written = self.of(n)
        return written if isinstance(n, CLOSED) or _is_closed(written) else f"({written})"

    def put(self, source: str) -> None:
        """Let the function run another text; as many free variables are needed as it has."""
        code = self.right[0]
        if code.co_freevars:
            self._take(_compiled_inside(source, code.co_filename), "outer")
        else:
            self._take(_compiled(HEAD + source, code.co_filename), self.written.__name__)

    def put_tree(self, tree: ast.Module) -> None:
        self._take(_compile(_inside(tree), self.right[0].co_filename), "outer")

    def _take(self, code: types.CodeType, name: str) -> None:
        """The code of the function that this compiled text defines, or that `outer` of it gives."""
        names = dict(self.function.__globals__)
        exec(code, names)
        new = names[name](None) if name == "outer" else names[name]
        EDITED.add(self.function)
        self.function.__code__ = new.__code__
        self.function.__defaults__ = new.__defaults__
        self.function.__kwdefaults__ = new.__kwdefaults__

    def restore(self) -> None:
        f = self.function
        EDITED.discard(f)
        f.__code__, f.__defaults__, f.__kwdefaults__ = self.right

    @property
    def file(self) -> str:
        return Path(self.written.__code__.co_filename).relative_to(PACKAGE.parent).as_posix()


def _compile(source: Any, file: str) -> types.CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # an edit need not make sense
        code: types.CodeType = compile(source, file, "exec")
    return code


_compiled = lru_cache(maxsize=2**14)(_compile)  # an edit is tried at several places


def _inside(tree: ast.Module) -> ast.Module:
    """The function of a text in one that gives it, and with it the free variable of a method."""
    (definition,) = tree.body
    definition.decorator_list = []  # type: ignore[attr-defined]
    tree = ast.parse(HEAD + "def outer(__class__):\n    def inner(): ...\n    return inner")
    outer: Any = tree.body[1]
    outer.body[0], outer.body[1].value.id = definition, definition.name  # type: ignore[attr-defined]
    return ast.fix_missing_locations(tree)


@lru_cache(maxsize=2**14)
def _compiled_inside(source: str, file: str) -> types.CodeType:
    return _compile(_inside(ast.parse(source)), file)


_lines_of = lru_cache(maxsize=1024)(inspect.getsourcelines)  # each search reads the same texts


@lru_cache(maxsize=1024)
def _tree(source: str) -> Any:
    return ast.parse(source).body[0]


@lru_cache(maxsize=1024)
def _parents(source: str) -> dict[ast.AST, ast.AST]:
    return {c: n for n in ast.walk(_tree(source)) for c in ast.iter_child_nodes(n)}


Change = tuple[int, int, str]  # from, to, what is written there instead


class Edit:
    """A small change of one text. rank: the simplest is told first."""

    remedy: str = ""
    threads: tuple[str, ...] = ()  # public ones, where it was met
    of_building: bool = False  # of what runs while a model is built

    def __init__(self, text: Text, changes: list[Change], words: str, rank: float) -> None:
        self.text, self.changes, self.words, self.rank = text, sorted(changes), words, rank

    @cached_property
    def source(self) -> str:
        written, last = "", 0
        for a, b, new in self.changes:
            written, last = written + self.text.source[last:a] + new, b
        return written + self.text.source[last:]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Inside this block minswin has the edited text. Not for several threads at once."""
        try:
            self.text.put(self.source)
            forget(self.text.function)
            yield
        finally:
            self.text.restore()
            forget(self.text.function)

    @cached_property
    def _hunks(self) -> list[tuple[list[str], list[str]]]:
        """The changed lines, ours and the new ones, for each group of lines."""
        text = self.text.source
        groups: list[tuple[int, int, list[Change]]] = []
        for a, b, new in self.changes:
            start, end = text.rfind("\n", 0, a) + 1, (text.find("\n", b) + 1) or len(text)
            if groups and start < groups[-1][1]:
                first, last, changes = groups[-1]
                groups[-1] = (first, max(end, last), [*changes, (a, b, new)])
            else:
                groups.append((start, end, [(a, b, new)]))
        found = []
        for start, end, changes in groups:
            written, last = "", start
            for a, b, new in changes:
                written, last = written + text[last:a] + new, b
            ours, theirs = text[start:end].splitlines(), (written + text[last:end]).splitlines()
            while ours and theirs and ours[0] == theirs[0]:
                del ours[0], theirs[0]
            while ours and theirs and ours[-1] == theirs[-1]:
                del ours[-1], theirs[-1]
            found.append((ours, theirs))
        return found

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """The changed lines: ("-", ours) and ("+", what gives their numbers, in our words)."""
        rows: list[tuple[str, str]] = []
        for ours, theirs in self._hunks:
            rows += [("-", line.strip()) for line in ours]
            rows += [("+", line.strip()) for line in said("\n".join(theirs)).splitlines()]
        return rows

    @property
    def diff(self) -> str:
        return "\n".join(f"{sign} {row}" for sign, row in self.rows)

    @property
    def place(self) -> str:
        """minswin/layers/basic.py:99, where the first changed line of ours stands."""
        first = self.changes[0][0] if self.changes else 0
        return f"{self.text.file}:{self.text.line + self.text.source[:first].count(chr(10))}"

    @cached_property
    def _size(self) -> int:
        lines = (line for both in self._hunks for lines in both for line in lines)
        return sum(len(line.strip()) + 3 for line in lines)

    @property
    def cost(self) -> tuple[float, int]:
        return self.rank, self._size


class Several:
    """Two edits at once."""

    def __init__(self, *edits: Any) -> None:
        self.edits = edits
        self.rank = sum(e.rank for e in edits)
        self.of_building = any(getattr(e, "of_building", False) for e in edits)
        self.words = ", and ".join(e.words for e in edits)

    @contextmanager
    def planted(self) -> Iterator[None]:
        a, b = self.edits
        if isinstance(a, Edit) and isinstance(b, Edit) and a.text is b.text:
            both = Edit(a.text, [*a.changes, *b.changes], self.words, self.rank)
            with both.planted():
                yield
            return
        with a.planted(), b.planted():
            yield

    @property
    def diff(self) -> str:
        return "\n".join(e.diff for e in self.edits)

    @property
    def place(self) -> str:
        return ", ".join(e.place for e in self.edits)

    @property
    def cost(self) -> tuple[float, int]:
        return self.rank, len(self.diff)

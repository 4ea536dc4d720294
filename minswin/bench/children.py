"""Measurements in processes of their own: nothing of one is left for the next."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from textwrap import shorten
from typing import Any

Work = Callable[..., Generator[Any, Any, None]]

# What BLAS and OpenMP read when they are loaded.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


class Failed(Exception):
    """A child could not do its work; the text is its reason."""


class Child:
    """A fresh process in which a generator works: it gives an answer, and one to each request.

        with Child(work, *arguments) as child:
            first = child.answer
            second = child.ask(request)      # what `yield` returns over there

    work: a function at the top of a module. environment: variables for that process only,
    None for one that it must not have.
    """

    def __init__(
        self, work: Work, *arguments: Any, environment: Mapping[str, str | None] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, work, arguments), daemon=True)
        with _environment(environment or {}):
            self._process.start()
        there.close()  # so that the end of the child is noticed
        try:
            self.answer = self._receive()
        except BaseException:
            self.close()
            raise

    def ask(self, request: Any) -> Any:
        self._pipe.send(request)
        return self._receive()

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            good, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise Failed(f"its process ended (exit code {code}; -9: out of memory)") from None
        if not good:
            raise Failed(value)
        return value


def call(
    function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Any:
    """function(*arguments), run in a process of its own."""
    with Child(_once, function, *arguments, environment=environment) as child:
        return child.answer


def blas_threads(threads: int) -> dict[str, str]:
    """The environment of a process whose matrix products use so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def _once(function: Callable[..., Any], *arguments: Any) -> Generator[Any, Any, None]:
    yield function(*arguments)


def _serve(pipe: Connection, work: Work, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    try:
        answers = work(*arguments)
        pipe.send((True, next(answers)))
        while True:
            pipe.send((True, answers.send(pipe.recv())))
    except (StopIteration, EOFError):
        return
    except Exception as error:  # whatever it is, the others go on
        reason = f"{type(error).__name__}: {error}"
        pipe.send((False, shorten(reason, 300, placeholder=" …")))  # in one line


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

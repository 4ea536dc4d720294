"""Machine code that is kept on disk: two processes never write it at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

pytest.importorskip("numba")
pytest.importorskip("fcntl")

from minswin.kernels.cpu.compiled import one_writer


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    """Locks of two open files exclude each other in one process as they do in two."""
    order = []
    second = threading.Thread(target=lambda: write_second(tmp_path, order))
    with one_writer(tmp_path):
        second.start()
        second.join(0.2)  # time enough to come in, were it let
        order.append("first")
    second.join()
    assert order == ["first", "second"]


def write_second(folder: Path, order: list[str]) -> None:
    with one_writer(folder):
        order.append("second")


def test_code_is_saved_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from minswin.kernels.cpu import compiled

    inside = []

    @contextmanager
    def lock(folder: Path):
        inside.append(folder)
        yield

    monkeypatch.setattr(compiled, "one_writer", lock)
    compiled._forgiving(lambda *arguments: inside.append(arguments), str(tmp_path))("code")
    assert inside == [tmp_path, ("code",)]

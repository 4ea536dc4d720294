"""Collects the rows of the parity table during the tests and prints it at the end."""

from __future__ import annotations

from typing import Any

import pytest

ROWS: list[Any] = []


@pytest.fixture(scope="session")
def report() -> list[Any]:
    """Where a test of a whole model leaves its row."""
    return ROWS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ROWS:
        from .cases import table  # needs torch, which was there if there are rows

        terminalreporter.section("parity in float64: largest relative errors")
        terminalreporter.write_line(table(ROWS))

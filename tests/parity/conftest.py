"""Collects the rows of the parity table during the tests and prints it at the end."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

ROWS: list[Any] = []
PROOFS: list[Any] = []


@pytest.fixture(scope="session")
def report() -> list[Any]:
    """Where a test of a whole model leaves its row."""
    return ROWS


@pytest.fixture(scope="session")
def proofs() -> list[Any]:
    """Where a test of one of the columns of the family's table leaves its error."""
    return PROOFS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Models of two libraries take time: the quick set is the same with torch and without."""
    for item in items:
        if item.get_closest_marker("parity"):
            item.add_marker(pytest.mark.slow)


# ── rows of pytest-xdist's workers travel to the process that prints ─────────────────────────────


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["parity"] = pickle.dumps((ROWS, PROOFS))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    rows, proofs = pickle.loads(getattr(node, "workeroutput", {}).get("parity", EMPTY))
    ROWS.extend(rows)
    PROOFS.extend(proofs)


EMPTY = pickle.dumps(([], []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ROWS:
        from .compare import table  # needs torch, which was there if there are rows

        terminalreporter.section("parity in float64: largest relative errors")
        terminalreporter.write_line(table(ROWS))
    if PROOFS:
        from .family import family_table, proofs_of

        terminalreporter.section("the family, in float64: the largest error of each")
        terminalreporter.write_line(family_table([*proofs_of(ROWS), *PROOFS]))

"""The faults that no probe shows: the test that each of them names turns red."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minswin.crosscheck.edits.classics import Classic, classics, planted

pytestmark = pytest.mark.parity

TESTS = str(Path(__file__).parents[1])
WITH_TEST = [fault for fault in classics() if fault.test]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests of the folder above can be imported."""
    monkeypatch.setattr(sys, "path", [TESTS, *sys.path])
    yield


@pytest.mark.parametrize("fault", WITH_TEST, ids=lambda fault: fault.name)
def test_the_test_that_a_fault_names_turns_red(fault: Classic, beside: None) -> None:
    module, name = fault.test.split(".py::")
    test = getattr(importlib.import_module(module), name)
    test = getattr(test, "quick", test)
    test()
    with planted(fault), pytest.raises((AssertionError, ValueError)):
        test()

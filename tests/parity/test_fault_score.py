"""The faults that no probe shows: the test that each of them names turns red."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minswin.crosscheck import faults as planting
from minswin.crosscheck import score
from minswin.crosscheck.faults import planted

pytestmark = pytest.mark.parity

TESTS = str(Path(__file__).parents[1])
WITH_TEST = [fault for fault in score.faults() if fault.test]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests of the folder above can be imported, and faults reach into them."""
    monkeypatch.setattr(sys, "path", [TESTS, *sys.path])
    homes = {fault.test.split(".py::")[0] for fault in WITH_TEST}
    monkeypatch.setattr(planting, "HOMES", planting.HOMES | homes)
    yield


@pytest.mark.parametrize("fault", WITH_TEST, ids=lambda fault: fault.name)
def test_the_test_that_a_fault_names_turns_red(fault: planting.Fault, beside: None) -> None:
    module, name = fault.test.split(".py::")
    test = getattr(importlib.import_module(module), name)
    test = getattr(test, "quick", test)
    test()
    with planted(fault), pytest.raises((AssertionError, ValueError)):
        test()

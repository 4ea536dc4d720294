"""The laws themselves are tested: each fault that is planted must turn its tests red.

The faults stand in faults_in_*.py, each under the names of the tests that must notice it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faults_in_attention  # noqa: F401  (importing enters the faults in FAULTS)
import faults_in_dropping  # noqa: F401
import faults_in_masks  # noqa: F401
import faults_in_models  # noqa: F401
import faults_in_norms  # noqa: F401
import faults_in_windows  # noqa: F401
import pytest
from planting import FAULTS, Fault, planted

from minswin import kernels

WATCHERS = list(dict.fromkeys(test for fault in FAULTS for test in fault.red))


def run(test: Callable[[], None]) -> None:
    getattr(test, "quick", test)()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_turns_its_tests_red(fault: Fault) -> None:
    with planted(fault):
        for test in fault.red:
            try:
                run(test)
            except fault.shows:
                continue
            pytest.fail(f"{test.__name__} stays green")


@pytest.mark.parametrize("test", WATCHERS, ids=lambda test: test.__name__)
def test_without_a_fault_the_same_test_is_green(test: Callable[[], None]) -> None:
    with kernels.using("reference"):  # as when a fault is planted
        run(test)


def test_the_readme_counts_the_faults() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
    assert f"{len(FAULTS)} of {len(FAULTS)} planted faults turn red" in readme


def test_no_two_faults_have_one_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)

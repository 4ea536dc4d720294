"""Arguments, settings, summaries and numbers are those that the lists promise."""

from __future__ import annotations

import numpy as np
import pytest
from promises import FOLDER, LISTS

AGAIN = "if the change is meant: python tests/promises.py, and a line in CHANGELOG.md"


def promised(name: str) -> list[str]:
    return (FOLDER / f"{name}.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("name", ["signatures", "summaries", "settings"])
def test_what_users_rely_on_is_as_it_was(name: str) -> None:
    assert list(LISTS[name]()) == promised(name), AGAIN


def test_every_family_computes_what_it_computed() -> None:
    """To 1e-9, for BLAS libraries add in other orders."""
    for line, before in zip(LISTS["numbers"](), promised("numbers"), strict=True):
        model, what, *values = line.split()
        assert before.split()[:2] == [model, what]
        known = np.array(before.split()[2:], float)
        np.testing.assert_allclose(
            np.array(values, float), known, rtol=1e-9, err_msg=f"{model} {what}: {AGAIN}"
        )

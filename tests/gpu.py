"""What tests that need a GPU share: they skip and say why, or fail where a GPU was promised."""

from __future__ import annotations

import os
from typing import Any

import pytest

from minswin import devices


def require_gpu() -> Any:
    """CuPy on a GPU. Without one the test is skipped; with MINSWIN_REQUIRE_GPU=1 it fails."""
    try:
        return devices.cupy()
    except (ImportError, OSError) as error:
        why = f"needs a GPU: {error}"
    if os.environ.get("MINSWIN_REQUIRE_GPU") == "1":
        pytest.fail(why)
    pytest.skip(why)

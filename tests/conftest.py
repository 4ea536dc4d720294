"""How hypothesis runs: the same examples every time where CI is set, new ones elsewhere."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("claims")

settings.register_profile("free", deadline=None, max_examples=20)
settings.register_profile("ci", settings.get_profile("free"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "free")

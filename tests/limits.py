"""The one limit of time in these tests."""

from __future__ import annotations

HANG = 600  # seconds after which another process or thread hangs; a busy machine is far below

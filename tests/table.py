"""The operations by name: their definitions, and which are composites or updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minswin.composites  # noqa: F401  (they are entered in OPERATIONS)
from minswin.lifting import OPERATIONS
from minswin.reference import updates

UPDATES = {"sgd_step", "adamw_step"}  # these change arrays in place and have no derivative
COMPOSITES = {name for name, o in OPERATIONS.items() if hasattr(o, "function")}


def definition_of(name: str) -> Callable[..., Any]:
    """The definition of an operation or an update; of a composite, made from its function."""
    return getattr(updates, name) if name in UPDATES else OPERATIONS[name].definition

"""What is known of each family of models: its names elsewhere, its settings, its buffers.

A file here that is called like one in `models/` defines the `Family` of that model, or several.
FAMILIES has them by the names that the models give them, in the order of the registry of models.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from minswin.models.base import Model
from minswin.models.registry import NAMED
from minswin.weights.families.family import Family


def _defined() -> Iterator[Family]:
    files_of_models = {model.__module__.rpartition(".")[2] for model in NAMED}
    for file in pkgutil.iter_modules(__path__):
        if file.name in files_of_models:
            values = vars(importlib.import_module(f"{__name__}.{file.name}")).values()
            yield from (value for value in values if isinstance(value, Family))


_BY_MODEL = {family.model: family for family in _defined()}
FAMILIES: dict[str, Family] = {m.family: _BY_MODEL[m] for m in NAMED if m in _BY_MODEL}

# (family, dialect): where two have the same names for a state, the first is reported
TABLES = tuple((family.name, dialect) for family in FAMILIES.values() for dialect in family.tables)
DIALECTS = tuple(dict.fromkeys(dialect for _, dialect in TABLES))
MINSWIN = "minswin"  # the dialect of our own names
OWN = tuple((name, MINSWIN) for name in FAMILIES)  # the tables of these


def family_of(model: Model) -> Family | None:
    """The family of a model, where it is one of these."""
    return FAMILIES.get(model.family)

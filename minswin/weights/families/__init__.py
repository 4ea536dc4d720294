"""What is known of each family of models: its names elsewhere, its settings, its buffers."""

from __future__ import annotations

from minswin.models.base import Model
from minswin.weights.families.family import Family
from minswin.weights.families.resnet import RESNET
from minswin.weights.families.swin import SWIN, SWIN_V2
from minswin.weights.families.tnt import TNT
from minswin.weights.families.twins import TWINS
from minswin.weights.families.vit import DEIT, VIT

FAMILIES: dict[str, Family] = {f.name: f for f in (SWIN, SWIN_V2, VIT, DEIT, TNT, RESNET, TWINS)}

# (family, dialect): where two have the same names for a state, the first is reported
TABLES: dict[tuple[str, str], str] = {
    (family.name, dialect): table
    for family in FAMILIES.values()
    for dialect, table in family.tables.items()
}
DIALECTS = tuple(dict.fromkeys(dialect for _, dialect in TABLES))


def family_of(model: Model) -> Family | None:
    """The family of a model, where it is one of these."""
    return FAMILIES.get(model.family)

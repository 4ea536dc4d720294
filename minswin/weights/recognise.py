"""Whose names a state has, what model it is of, and which named models it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minswin.models.registry import CLASSES, MODELS
from minswin.models.swin import SwinTransformer
from minswin.weights.families import FAMILIES, TABLES
from minswin.weights.families.family import Facts, Settings, State
from minswin.weights.families.rows import OURS, translate


class Known(NamedTuple):
    """A state that was recognised, under our names."""

    family: str
    dialect: str
    weights: State
    buffers: State
    unknown: list[str]  # names that no table has

    def facts(self) -> Facts:
        """What the buffers tell; raises where one is not the buffer that we compute."""
        return FAMILIES[self.family].check(self.buffers, self.weights)


def dialect(state: Mapping[str, np.ndarray]) -> str:
    """Whose names these are: microsoft, timm, transformers, torchvision, …

    Where two have the same names, the family's original is said: older files of timm have
    microsoft's. A state without a head is recognised too: by the place of Swin's merges.
    """
    known = recognise(state)
    if known.unknown:
        raise ValueError(
            f"dialect: nearest to these {len(state):,} names are those of {known.dialect} for a "
            f"{known.family}, but it has no {_several(known.unknown)}"
        )
    return known.dialect


def recognise(state: Mapping[str, np.ndarray]) -> Known:
    """The table that has most of the names and whose shapes fit, and the state under our names."""
    known = nearest(state, list(TABLES))
    for family in FAMILIES.values():
        if _good(known, state):
            break
        if family.base:
            known = nearest({f"{family.base}.{name}": x for name, x in state.items()}, list(TABLES))
    if known is None or not _good(known, state):
        raise ValueError(
            f"dialect: none of the known families and namings fits these {len(state):,} names "
            f"({_several(list(state))}); known are "
            + ", ".join(f"{family} ({of})" for family, of in TABLES)
        )
    return known


def _good(known: Known | None, state: Mapping[str, np.ndarray]) -> bool:
    return known is not None and len(known.unknown) <= len(state) / 2


def nearest(state: Mapping[str, np.ndarray], tables: list[tuple[str, str]]) -> Known | None:
    """The one of the tables that has most of the names, if any fits the shapes."""
    found, problem = [], None
    for family, of in tables:
        try:
            weights, unknown = translate(state, family, of, towards=OURS)
        except ValueError as error:  # what one table refuses, another may mean
            problem = error
            continue
        if FAMILIES[family].may_be(weights):
            found.append(Known(family, of, *FAMILIES[family].split(weights), unknown))
    if problem is not None and not found:
        raise problem
    return min(found, key=lambda known: len(known.unknown), default=None)


def _several(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names):,})" if len(names) > 5 else "")


# ── which model ──────────────────────────────────────────────────────────────────────────────────


def settings_of(known: Known) -> Settings:
    """The settings of the model that the weights are of, as far as they tell.

    They do not tell a ViT's number of heads, nor, without its buffers, the window of a Swin V2.
    """
    family, facts = FAMILIES[known.family], known.facts()
    try:
        own = family.settings(known.weights, facts)
        head = next((h for h in family.heads if f"{h}.weight" in known.weights), None)
        if head is not None:
            own["num_classes"] = len(known.weights[f"{head}.weight"])
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else "a weight of a wrong shape"
        raise ValueError(
            f"dialect: a whole {known.family} was expected, and these {len(known.weights):,} "
            f"weights have {what}; are they damaged, or in one of several files?"
        ) from None
    return own


def fitting(known: Known) -> list[str]:
    """The named models that the weights fit, but for the number of classes."""
    own = settings_of(known)
    model = FAMILIES[known.family].model
    names = [n for n in MODELS if CLASSES.get(n, SwinTransformer) is model]
    return [name for name in names if not _differing(own, full_settings(name))]


def full_settings(name: str) -> Settings:
    """The settings of a named model, defaults included."""
    family: Any = CLASSES.get(name, SwinTransformer)
    defaults: Settings = {}
    for one in reversed(family.__mro__):
        defaults.update(getattr(vars(one).get("__init__"), "__kwdefaults__", None) or {})
    return {**defaults, **MODELS[name]}


def _differing(own: Settings, full: Settings) -> list[str]:
    """The settings in which weights and a model differ; `num_classes` is not asked."""
    asked = {**own, "num_classes": full["num_classes"]}
    return [key for key, value in asked.items() if _plain(full.get(key)) != _plain(value)]


def _plain(value: Any) -> Any:
    """4 for (4, 4), and a tuple for a list."""
    if isinstance(value, (tuple, list)):
        return value[0] if len(value) == 2 and value[0] == value[1] else tuple(value)
    return value

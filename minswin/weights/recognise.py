"""Whose names a state has, what model it is of, and which named models it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minswin.models.base import Model, defaults_of
from minswin.models.blank import BLANK
from minswin.models.registry import CLASSES, MODELS
from minswin.weights.families import FAMILIES, OWN, TABLES
from minswin.weights.families.family import Facts, Family, Settings, State
from minswin.weights.families.rows import OURS, translate
from minswin.weights.state import arrays_of, listed

PREFIXES = 4  # that are taken off at most, one after the other


class Known(NamedTuple):
    """A state that was recognised, under our names."""

    family: str
    dialect: str
    weights: State
    buffers: State
    unknown: State  # what the table has no name for
    prefix: str = ""  # what was taken off the names
    strays: tuple[str, ...] = ()  # names that do not begin with it, of nothing in the model

    def facts(self) -> Facts:
        """What the buffers tell; raises where one is not the buffer that we compute."""
        return FAMILIES[self.family].check(self.buffers, self.weights)


def dialect(state: Mapping[str, np.ndarray]) -> str:
    """Whose names these are: microsoft, timm, transformers, torchvision, …

    Where two have the same names, it is the family's original: older files of timm have
    microsoft's. A state without a head is recognised too: by the place of Swin's merges.
    """
    known = recognise(arrays_of(state, who="dialect"))
    if known.unknown:
        raise ValueError(
            f"dialect: nearest to these {len(state):,} names are those of {known.dialect} for a "
            f"{known.family}, but it has no {listed(known.unknown)}"
        )
    return known.dialect


def recognise(state: Mapping[str, np.ndarray]) -> Known:
    """The table that has most of the names and whose shapes fit, and the state under our names.

    A prefix that most names share, such as that of a wrapper ("net.", "encoder."), is taken off.
    """
    names = {name: name for name in state}  # without the prefix: as they are
    prefix = ""
    for _ in range(PREFIXES + 1):
        known = _as_named({name: state[whole] for name, whole in names.items()})
        if known is not None:
            return _without_strays(known, prefix, names, state)
        first = shared_beginning(names)
        if not first:
            break
        prefix += first
        names = {
            name.removeprefix(first) if name.startswith(first) else name: whole
            for name, whole in sorted(names.items(), key=lambda item: item[0].startswith(first))
        }
    families = ", ".join(family.paper for family in FAMILIES.values())
    raise ValueError(
        f"dialect: these {len(state):,} names are those of none of the known families "
        f"({families}); {_beginnings(state)}"
    )


def shared_beginning(names: Mapping[str, Any]) -> str:
    """What most names have before their first dot, such as "module."; "" where there is no such."""
    counts = Counter(name.partition(".")[0] + "." for name in names if "." in name)
    first, count = counts.most_common(1)[0] if counts else ("", 0)
    return first if 2 * count > len(names) else ""


def _beginnings(state: Mapping[str, np.ndarray]) -> str:
    """How the names begin, and how to choose among several models."""
    counts = Counter(name.partition(".")[0] for name in state)
    shown = ", ".join(f"{count:,} with {first!r}" for first, count in counts.most_common(4))
    large = [first for first, count in counts.most_common(2) if count > max(2, 0.3 * len(state))]
    choose = "; choose one of them with key= (--key)" if len(large) == 2 else ""
    return f"they begin {shown}{choose}"


def _without_strays(known: Known, prefix: str, names: Mapping[str, str], all_: Any) -> Known:
    """Names beside the prefix that are none of the model's, apart from what is unknown within."""
    if not prefix:
        return known
    beside = {n for n in known.unknown if not names.get(n, n).startswith(prefix)}
    shadowed = set(all_) - set(names.values())  # by a name that is the same without the prefix
    return known._replace(
        unknown={name: x for name, x in known.unknown.items() if name not in beside},
        prefix=prefix,
        strays=tuple(sorted({names[name] for name in beside} | shadowed)),
    )


def _as_named(state: Mapping[str, np.ndarray]) -> Known | None:
    """The state where its names are those of a table, or what transformers leaves of them."""
    known = nearest(state, [*TABLES, *OWN])
    if not _good(known, state):
        bases = (_of_base(state, family) for family in FAMILIES.values() if family.base)
        known = min(filter(None, bases), key=lambda known: len(known.unknown), default=None)
    return known if _good(known, state) else None


def _of_base(state: Mapping[str, np.ndarray], family: Family) -> Known | None:
    """The state where transformers saved a model without its head, and without its first word."""
    base = family.base + "."
    known = nearest(
        {base + name: x for name, x in state.items()}, [(family.name, of) for of in family.tables]
    )
    if known is None:
        return None
    return known._replace(unknown={n.removeprefix(base): x for n, x in known.unknown.items()})


def _good(known: Known | None, state: Mapping[str, np.ndarray]) -> bool:
    return known is not None and len(known.unknown) <= len(state) / 2


def nearest(state: Mapping[str, np.ndarray], tables: list[tuple[str, str]]) -> Known | None:
    """The one of the tables that has most of the names, if any fits the shapes."""
    candidates, problem = [], None
    for family, of in tables:
        try:
            weights, unknown = translate(state, family, of, towards=OURS)
        except ValueError as error:  # what one table refuses, another may mean
            problem = error
            continue
        if FAMILIES[family].may_be(weights, unknown):
            rest = {name: state[name] for name in unknown}
            candidates.append(Known(family, of, *FAMILIES[family].split(weights), rest))
    if problem is not None and not candidates:
        raise problem
    return min(candidates, key=lambda known: len(known.unknown), default=None)


# ── which model ──────────────────────────────────────────────────────────────────────────────────


def settings_of(known: Known) -> Settings:
    """The settings of the model that the weights are of, as far as they tell.

    They do not tell a ViT's number of heads, nor, without its buffers, the window of a Swin V2.
    """
    family, facts = FAMILIES[known.family], known.facts()
    try:
        settings = family.settings(known.weights, facts)
        head = next((h for h in family.model.head_names if f"{h}.weight" in known.weights), None)
        if head is not None:
            settings["num_classes"] = len(known.weights[f"{head}.weight"])
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else "a weight of a wrong shape"
        raise ValueError(
            f"dialect: a whole {known.family} was expected, and these {len(known.weights):,} "
            f"weights have {what}; are they damaged, or in one of several files?"
        ) from None
    return settings


def fitting(known: Known) -> list[str]:
    """The named models that the weights fit, but for the number of classes."""
    read = settings_of(known)
    model, fits = FAMILIES[known.family].model, FAMILIES[known.family].fits_settings
    full = {name: full_settings(name) for name in MODELS if CLASSES[name] is model}
    return [n for n, of in full.items() if not _differing(read, of) and fits(known.weights, of)]


def blank(known: Known, name: str | None = None) -> Model | None:
    """A model without numbers that the weights may be of: a named one, or one of their settings.

    It has their number of classes. None where settings are told in words, such as one of two sizes.
    """
    build: Any = FAMILIES[known.family].model
    read = settings_of(known)
    told = {"num_heads": 1} if "num_heads" in defaults_of(build) else {}  # a ViT's do not show
    told |= read if name is None else MODELS[name]
    if isinstance(told.get("img_size"), str):  # in words; no name depends on it
        del told["img_size"]
    if "num_classes" in read:
        told["num_classes"] = read["num_classes"]
    try:
        model: Model = build(**told, rng=BLANK)
    except (TypeError, ValueError):
        return None
    return model


def full_settings(name: str) -> Settings:
    """The settings of a named model, defaults included."""
    return {**defaults_of(CLASSES[name]), **MODELS[name]}


def _differing(read: Settings, full: Settings) -> list[str]:
    """The settings in which weights and a model differ; `num_classes` is not compared."""
    compared = {**read, "num_classes": full["num_classes"]}
    return [key for key, value in compared.items() if _plain(full.get(key)) != _plain(value)]


def _plain(value: Any) -> Any:
    """4 for (4, 4), and a tuple for a list."""
    if isinstance(value, (tuple, list)):
        return value[0] if len(value) == 2 and value[0] == value[1] else tuple(value)
    return value

"""Weights under the names of another implementation: microsoft, timm, transformers, torchvision.

What the names are is in families/.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minswin.models.base import Model
from minswin.weights.families import DIALECTS, FAMILIES, MINSWIN, TABLES
from minswin.weights.families.family import Settings, State
from minswin.weights.families.rows import THEIRS, keeps, translate
from minswin.weights.recognise import Known, fitting, full_settings, nearest, settings_of
from minswin.weights.state import arrays_of, listed

# Dialects whose names are all those of another one.
ALIASES = {"timm_old": "microsoft", "facebook": "timm", "huawei": "original"}


def rename(
    state: Mapping[str, np.ndarray], source: str, target: str, *, model: Model | None = None
) -> State:
    """The arrays under another implementation's names: a bijection, bit for bit.

    source, target: "microsoft", "timm", "transformers" (published files), "transformers5" (in the
    memory of its version 5), "torchvision", "original" (TNT), or "minswin"
    model: what the weights are of, where they do not tell: it is asked for the size of the image
    when masks are to be written.
    Arrays that follow from the model (index, masks) are checked and left out, and made again where
    the target's files hold them. One array of q, k and v is split where the target has three, into
    views.
    """
    known = _read(arrays_of(state, who="rename"), source)
    if known.unknown:
        raise ValueError(
            f"rename: {source} has no {listed(known.unknown)} in a {known.family}; is it of "
            "another implementation? See weights.dialect"
        )
    if model is not None and model.family != known.family:
        raise ValueError(
            f"rename: the weights are of a {known.family}, and the model is a "
            f"{model.family or type(model).__name__}; give the model that they are of, or none"
        )
    known.facts()
    if target == MINSWIN:
        return known.weights
    return write(known, _table(known.family, target), model)


def write(known: Known, target: str, model: Model | None = None) -> State:
    """Recognised weights under the names of `target`, with the buffers that its files hold."""
    ours = {**known.weights, **_buffers(known, target, model)}
    words = FAMILIES[known.family].words(model)
    theirs, unknown = translate(ours, known.family, target, towards=THEIRS, words=words)
    if unknown:
        raise ValueError(
            f"rename: {target} has no name for {listed(unknown)} of a {known.family}; "
            "its models have no such part"
        )
    return theirs


def _read(state: Mapping[str, np.ndarray], source: str) -> Known:
    """The state under our names, by the table of `source`."""
    source = ALIASES.get(source, source)
    if source != MINSWIN:
        _check_known("source", source)
        known = nearest(state, [(family, of) for family, of in TABLES if of == source])
        if known is None:
            raise ValueError(
                f"rename: these {len(state):,} names are not those of {source}; "
                "weights.dialect(state) says whose they are"
            )
        return known
    families = [family for family in FAMILIES.values() if family.may_be(state)]
    if not families:
        raise ValueError(f"rename: these {len(state):,} names are not those of a minswin model")
    family = FAMILIES["deit"] if FAMILIES["deit"] in families else families[0]
    return Known(family.name, MINSWIN, *family.split(state), {})


def _table(family: str, target: str) -> str:
    target = ALIASES.get(target, target)
    _check_known("target", target)
    if (family, target) not in TABLES:
        known = ", ".join(FAMILIES[family].tables)
        raise ValueError(f"rename: {target} has no {family}; it is known of {known}")
    return target


def _check_known(what: str, name: str) -> None:
    if name not in DIALECTS:
        raise ValueError(
            f"rename: {what} must be one of {MINSWIN}, {', '.join(DIALECTS)}, got {name!r}"
        )


# ── buffers ──────────────────────────────────────────────────────────────────────────────────────


def _buffers(known: Known, target: str, model: Model | None) -> State:
    """The arrays beside the weights that files of `target` hold, under our names."""

    def told() -> tuple[Settings, dict[str, Settings]]:
        return settings_of(known), {name: full_settings(name) for name in fitting(known)}

    def kept(name: str) -> bool:
        return keeps(name, known.family, target)

    return FAMILIES[known.family].make(known.weights, kept, told, model)

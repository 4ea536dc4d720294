"""Weights under the names of another implementation: microsoft, timm, transformers, torchvision.

What the names are is in names_tables; here it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt, prod
from typing import Any

import numpy as np

from minswin.models.base import Model
from minswin.models.tnt import TNT
from minswin.weights.dialect import (
    FAMILIES,
    Known,
    fits_family,
    fitting,
    full_settings,
    nearest,
    settings_of,
)
from minswin.weights.names_buffers import (
    UNUSED,
    StageWindows,
    check,
    make,
    split_off,
    stages_of,
)
from minswin.weights.names_rows import THEIRS, Pair, State, keeps, translate
from minswin.weights.names_tables import DIALECTS, TABLES

OWN = "minswin"
AS_MANY = {"timm_old": "microsoft", "facebook": "timm", "huawei": "original"}  # other words


def rename(
    state: Mapping[str, np.ndarray], source: str, target: str, *, model: Model | None = None
) -> State:
    """The arrays under another implementation's names: a bijection, bit for bit.

    source, target: "microsoft", "timm", "transformers" (published files), "transformers5" (in the
    memory of its version 5), "torchvision", "original" (TNT), or "minswin"
    model: what the weights are of, where they do not tell: it is asked for the size of the image
    when masks are to be written.
    Arrays that follow from the model (index, masks) are checked and left out, and made again where
    the target's files hold them. Where q, k and v are one array here and three there, it is split,
    into views.
    """
    known = _read(state, source)
    if known.unknown:
        raise ValueError(
            f"rename: {source} has no {', '.join(known.unknown[:5])}"
            + (f", … ({len(known.unknown)} names)" if len(known.unknown) > 5 else "")
            + f" in a {known.family}; is it of another implementation? See weights.dialect"
        )
    check(known.buffers, known.weights)
    if target == OWN:
        return known.weights
    return write(known, _table(known.family, target), model)


def write(known: Known, target: str, model: Model | None = None) -> State:
    """Recognised weights under the names of `target`, with the buffers that its files hold."""
    ours = {**known.weights, **_buffers(known, target, model)}
    words: Any = model.patch_embed.words if isinstance(model, TNT) else None
    theirs, unknown = translate(ours, known.family, target, towards=THEIRS, words=words)
    if unknown:
        raise ValueError(
            f"rename: {target} has no name for {', '.join(unknown[:5])} of a {known.family}; "
            "its models have no such part"
        )
    return theirs


def _read(state: Mapping[str, np.ndarray], source: str) -> Known:
    """The state under our names, by the table of `source`."""
    source = AS_MANY.get(source, source)
    if source != OWN:
        _check_known("source", source)
        known = nearest(state, [(family, of) for family, of in TABLES if of == source])
        if known is None:
            raise ValueError(
                f"rename: these {len(state):,} names are not those of {source}; "
                "weights.dialect(state) says whose they are"
            )
        return known
    weights, buffers = split_off(state)
    families = [family for family in FAMILIES if fits_family(weights, family)]
    if not families:
        raise ValueError(f"rename: these {len(state):,} names are not those of a minswin model")
    family = "deit" if "deit" in families else families[0]
    return Known(family, OWN, weights, buffers, [])


def _table(family: str, target: str) -> str:
    target = AS_MANY.get(target, target)
    _check_known("target", target)
    if (family, target) not in TABLES:
        those = [of for one, of in TABLES if one == family]
        raise ValueError(f"rename: {target} has no {family}; it is known of {', '.join(those)}")
    return target


def _check_known(what: str, name: str) -> None:
    if name not in DIALECTS:
        raise ValueError(
            f"rename: {what} must be one of {OWN}, {', '.join(DIALECTS)}, got {name!r}"
        )


# ── buffers ──────────────────────────────────────────────────────────────────────────────────────


def _buffers(known: Known, target: str, model: Model | None) -> State:
    """The arrays beside the weights that files of `target` hold, under our names."""
    if known.family == "tnt" and keeps(UNUSED, "tnt", target):
        positions = known.weights["outer_pos"]
        return {UNUSED: np.zeros_like(positions[:, 1:])}
    if known.family not in ("swin", "swinv2"):
        return {}
    probe = make([StageWindows((4, 4), (2, 2), 2, 0)], v2=known.family == "swinv2")
    if not any(keeps(name, known.family, target) for name in probe):
        return {}
    masks = any(keeps(n, known.family, target) for n in probe if n.endswith("attn_mask"))
    stages = _windows(model, masks) if model is not None else _guess(known, masks)
    made = make(stages, v2=known.family == "swinv2")
    return {name: x for name, x in made.items() if keeps(name, known.family, target)}


def _windows(model: Any, masks: bool) -> list[StageWindows]:
    """The windows of a model's stages."""
    attentions = [[block.attn for block in stage.blocks] for stage in model.layers]
    first = next(row[0] for row in attentions if row)
    settings = {
        "img_size": model.img_size,
        "patch_size": model.patch_size,
        "window_size": first.window,
        "depths": [len(row) for row in attentions],
    }
    pretrained = [getattr(row[0], "pretrained", row[0].window) for row in attentions]
    return [
        stage._replace(window=row[0].window, pretrained=0 if side == row[0].window else side[0])
        for stage, row, side in zip(stages_of(settings), attentions, pretrained, strict=True)
    ]


def _guess(known: Known, masks: bool) -> list[StageWindows]:
    """The windows of the model that the weights fit, or that their buffers tell of."""
    own = settings_of(known)
    names = fitting(known)
    windows = {_geometry(full_settings(name)) for name in names}
    if own.get("window_size") and "img_size" in own:
        return _fit_tables(stages_of(own), known.weights)
    if len(windows) == 1:
        return stages_of(full_settings(names[0]))
    if own.get("window_size") and not masks:
        return _fit_tables(stages_of({**own, "img_size": _large_enough(own)}), known.weights)
    which = f"it may be any of {', '.join(names)}" if names else "it is no named model"
    unsaid = "size of the image" if own.get("window_size") else "window"
    raise ValueError(
        f"rename: the weights do not tell the {unsaid} that their "
        f"{'masks depend' if masks else 'index depends'} on, and {which}; give the model as model="
    )


def _fit_tables(stages: list[StageWindows], weights: State) -> list[StageWindows]:
    """The same with the windows of the bias tables, which may have shrunk to fit a small map."""
    fitted = []
    for i, stage in enumerate(stages):
        table = weights.get(f"layers.{i}.blocks.0.attn.relative_position_bias_table")
        side = 0 if table is None else (isqrt(len(table)) + 1) // 2
        if table is not None and len(table) != prod(2 * M - 1 for M in stage.window):
            if len(table) != (2 * side - 1) ** 2:
                raise ValueError(
                    f"rename: the bias table of stage {i} has {len(table)} rows, which do not "
                    "tell its window; give the model as model="
                )
            stage = stage._replace(window=(side, side))
        fitted.append(stage)
    return fitted


def _geometry(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = ("img_size", "patch_size", "window_size", "pretrained_window_sizes", "depths")
    return tuple(settings.get(key) for key in keys)


def _large_enough(own: Mapping[str, Any]) -> Pair:
    """An image on whose last map the window fits."""
    window, patch = own["window_size"], own["patch_size"]
    sides = window if isinstance(window, tuple) else (window, window)
    factor = 2 ** len(own["depths"])
    return sides[0] * patch[0] * factor, sides[1] * patch[1] * factor

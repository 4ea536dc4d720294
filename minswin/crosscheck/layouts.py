"""Maps that others keep as windows: (images · windows, tokens, channels) after the roll.

The original code, and all that follows it, applies qkv and proj to windows; ours are applied to the
map. Such a tensor has our name and another layout. It is put back where the tensors of its layer
show how: by one of them that equals ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minswin.crosscheck.folder import Trace

Array = np.ndarray
NOTE = "put together from windows"


def from_windows(
    truth: Trace, theirs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, str]]:
    """Their tensors, those in windows as maps where it is sure how; and notes, by their names."""
    found = dict(theirs)
    notes: dict[str, str] = {}
    layers: dict[str, list[str]] = {}
    for name, x in theirs.items():
        step = truth.steps.get(name)
        layer = name.rpartition(".")[0]
        if step is None or step.value.shape == x.shape or step.value.ndim != 4:
            continue
        if _geometry(truth, layer) is not None:
            layers.setdefault(layer, []).append(name)
    for layer, names in layers.items():
        for rolled in (True, False):
            maps = {n: _map(truth, layer, n, theirs[n], rolled) for n in names}
            good = {n: x for n, x in maps.items() if x is not None}
            if any(_near(truth.steps[n].value, x) for n, x in good.items()):
                found |= good
                notes |= dict.fromkeys(good, NOTE)
                break
    return found, notes


def _geometry(truth: Trace, layer: str) -> Mapping[str, tuple[int, int]] | None:
    step = truth.steps.get(f"{layer}.windows") or truth.steps.get(f"{layer}.map")
    known = step is not None and {"grid", "window", "shift"} <= step.geometry.keys()
    return step.geometry if known and step is not None else None


def _map(truth: Trace, layer: str, name: str, x: Array, rolled: bool) -> Array | None:
    geometry = _geometry(truth, layer)
    assert geometry is not None
    (H, W), (Mh, Mw), shift = geometry["grid"], geometry["window"], geometry["shift"]
    B, rows, columns, C = truth.steps[name].value.shape
    if x.size != B * H * W * C or x.shape[-1] != C:
        return None
    x = x.reshape(B, H // Mh, W // Mw, Mh, Mw, C).swapaxes(2, 3).reshape(B, H, W, C)
    if rolled:
        x = np.roll(x, shift, (1, 2))
    return np.ascontiguousarray(x[:, :rows, :columns])


def _near(ours: Array, theirs: Array) -> bool:
    scale = float(np.std(ours))
    return scale > 0 and float(np.max(np.abs(ours - theirs), initial=0)) <= 1e-2 * scale

"""What the program of a page reads: the model or what was recorded of it, pictures, points."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import to_numpy
from minswin.autograd import no_grad
from minswin.look import features, planes, positions
from minswin.look.attention import Attention
from minswin.look.page.recorded import as_text, recorded_attention
from minswin.look.page.subject import Sight, Subject, pixels_as_uri
from minswin.look.page.tokens import steps_of
from minswin.look.page.weights import (
    rounded_weights,
    runs_in_the_page,
    settings_of,
    weights_as_text,
)
from minswin.models import VisionTransformer

Data = dict[str, Any]
CHANNELS = 6  # of a recorded map, those that vary most


def page_data(subject: Subject, records: list[Attention]) -> Data:
    """All but what `recorded` adds for a model that the page cannot run."""
    model, (mean, deviation) = subject.model, subject.statistics
    live = runs_in_the_page(model)
    cost = subject.cost
    return {
        "size": subject.size,
        "mean": [float(x) for x in mean],
        "std": [float(x) for x in deviation],
        "classes": list(subject.classes),
        "macs": model.flops(subject.size),
        "family": (settings_of(model) or {}).get("family", "other"),
        "stem": [step._asdict() for step in steps_of(model)],
        "depth": len(records),
        "front": records[0].front if records else 0,
        "windows": any(record.window != record.covered for record in records),
        "shifts": any(any(record.shift) for record in records),
        "has_bias": bool(positions.bias_pictures(model, records)),
        "samples": [{"name": s.name, "src": pixels_as_uri(s.pixels)} for s in subject.samples],
        "cost": {"C": cost.C, "M": cost.M, "patch": cost.patch},
        "examples": {"classes": list(subject.examples.classes)},
        "planes": all_planes(subject),
        "weights": weights_as_text(model) if live else None,
        "settings": settings_of(model) if live else {},
        "similarity": _similarity(model),
    }


def recorded(subject: Subject, records: list[Attention], budget: float) -> Data:
    """Attention, biases, channels and answer of one forward."""
    tables = positions.bias_pictures(subject.model, records)
    return {
        **recorded_attention(records, budget=budget),
        "logits": [float(x) for x in np.log(np.maximum(subject.probabilities, 1e-30))],
        "biases": {
            f"{record.stage}.{record.block}": _table(table)
            for record, table in zip(records, tables, strict=False)
        },
        "features": _channels(subject),
        "settings": {},
    }


def _table(picture: np.ndarray) -> Data:
    """(h, 2Mh−1, 2Mw−1) as the rows of a bias table, (displacements, h)."""
    rows = picture.reshape(len(picture), -1).T
    return {"shape": rows.shape, "data": as_text(rows.astype("<f4"))}


def _channels(subject: Subject) -> list[Data]:
    """The channels of every map that vary most."""
    maps, channels = features.feature_maps(subject.model, subject.x), []
    for number, values in enumerate(maps, 1):
        name = f"stage {number}" if len(maps) > 1 else "last block"
        for channel in features.lively_channels(values, CHANNELS if len(maps) < 3 else 4):
            numbers = as_text(values[..., channel].astype("<f4"))
            shape = values.shape[:2]
            channels.append({"name": name, "channel": channel, "shape": shape, "data": numbers})
    return channels


def _similarity(model: Any) -> Data | None:
    """How alike the position vectors of any two places of a ViT are, float16."""
    vectors = positions.position_vectors(model) if isinstance(model, VisionTransformer) else None
    if vectors is None:
        return None
    alike = positions.similarity(vectors)  # (H, W, H, W)
    return {"shape": alike.shape, "data": as_text(alike.astype("<f2"))}


def moved_by_float16(model: Any, x: np.ndarray) -> float:
    """How far the largest logit of a picture (3, H, W) moves when the weights become float16."""
    exact = {name: array.copy() for name, array in model.state_dict().items()}
    with model.evaluating(), no_grad():
        before = to_numpy(model(x[None]).data)
        model.load_state_dict(rounded_weights(model))
        after = to_numpy(model(x[None]).data)
        model.load_state_dict(exact)
    return float(abs(after - before).max())


# ── pictures as points ───────────────────────────────────────────────────────────────────────────


def all_planes(subject: Subject) -> list[Data]:
    """The example images and the picture as points: each model, by each method that is there."""
    labels = [int(label) for label in subject.examples.labels]
    drawn: list[Data] = []
    for number, sight in enumerate(subject.sights):
        vectors = features.pooled_features(sight.model, sight.examples)  # (B, C)
        picture = features.pooled_features(sight.model, sight.picture[None])  # (1, C)
        _require_finite(sight, vectors)
        drawn.append(_principal(sight, vectors, picture, labels, live=number == 0))
        if "tsne" in planes.available_methods():
            drawn.append(_neighbours(sight, vectors, picture, labels))
    return drawn


def _require_finite(sight: Sight, vectors: np.ndarray) -> None:
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"explain: the features of {sight.name} are not finite; its weights are spoilt: "
            "use others"
        )


def _principal(
    sight: Sight, vectors: np.ndarray, picture: np.ndarray, labels: list[int], *, live: bool
) -> Data:
    """PCA of the examples; the picture, or what its reader makes of it, falls where it falls."""
    middle = vectors.mean(axis=0, dtype=np.float64)
    axes, share = planes.principal_axes(vectors)  # (2, C), (2,)
    points = (vectors - middle) @ axes.T
    plain = getattr(sight.model, "pre_logits", None) is None
    basis = [[float(x) for x in axis] for axis in axes] if live and plain else None
    return {
        "title": f"{sight.name}, PCA: {share.sum():.0%} of the variance",
        "points": _labelled(points, labels),
        "picture": [float(x) for x in ((picture - middle) @ axes.T)[0]],
        "basis": basis,
        "centre": [float(x) for x in middle],
    }


def _neighbours(sight: Sight, vectors: np.ndarray, picture: np.ndarray, labels: list[int]) -> Data:
    points = planes.neighbourhoods(np.concatenate([vectors, picture]))
    star = [float(x) for x in points[-1]]
    title = f"{sight.name}, t-SNE"
    return {
        "title": title,
        "points": _labelled(points[:-1], labels),
        "picture": star,
        "basis": None,
    }


def _labelled(points: np.ndarray, labels: list[int]) -> list[tuple[float, float, int]]:
    """Points with the number of their class, in four digits: a screen shows three."""
    return [
        (float(f"{x:.4g}"), float(f"{y:.4g}"), label)
        for (x, y), label in zip(points, labels, strict=True)
    ]

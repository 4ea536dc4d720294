"""The sections of the report, in the order in which the data flows."""

from __future__ import annotations

import html
from collections.abc import Iterable

import numpy as np

from minswin.look import canvas, cost, features, planes, positions, receptive, windows
from minswin.look.attention import Attention
from minswin.look.page.sections_attention import attended, biased, placed, shifted
from minswin.look.page.subject import Other, Section, Subject, paragraph, picture
from minswin.look.tables import times
from minswin.models import SwinTransformer, VisionTransformer


def sections(subject: Subject, seen: list[Attention]) -> list[Section]:
    """All sections that make sense for the model."""
    parts = [patches(subject)]
    if any(record.window != record.covered for record in seen):
        parts.append(shifted(subject, seen))
    if seen:
        parts.append(attended(subject, seen))
    if isinstance(subject.model, VisionTransformer):
        parts.append(placed(subject, seen))
    elif positions.bias_pictures(subject.model, seen):
        parts.append(biased(subject, seen))
    return [*parts, reach(subject), price(subject), described(subject), answered(subject)]


# ── patches and shapes ───────────────────────────────────────────────────────────────────────────


def patches(subject: Subject) -> Section:
    model, size = subject.model, subject.size
    drawn, axes = canvas.figure(2, width=3.1, height=3.2)
    canvas.show_image(axes[0, 0], subject.pixels).set_title(
        f"what the model is given: {times((*size, 3))}", fontsize=8
    )
    patch = getattr(model, "patch_size", None)
    caption = "Drawn by <code>canvas.show_image</code>"
    if patch is None:
        canvas.clear(axes[0, 1])
    else:
        windows.draw_patches(axes[0, 1], subject.pixels, patch)
        caption += " and <code>windows.draw_patches</code>"
    body = paragraph(
        "The picture is brought to the size that the model was made for, and its bytes to numbers "
        "around 0. From there on an image is an array, and every step changes its shape:"
    )
    body += _walk(subject) + picture(drawn, "the image and its patches", caption + ".", wide=480)
    return Section("patches", "The image and its shapes", body)


def _walk(subject: Subject) -> str:
    """The shapes of model.summary() in a line and as a table; the squares are drawn to scale."""
    rows, summary = [], subject.model.summary(subject.size)
    way = " → ".join(dict.fromkeys(times(shape) for _, shape, *_ in summary))  # each once
    for name, shape, parameters, macs in summary:
        side = shape[0] / subject.size[0] if len(shape) == 3 else 0
        square = max(2.0, 26 * side) if side else 0
        corner = f'x="{13 - square / 2:.1f}" y="{13 - square / 2:.1f}"'
        sides = f'width="{square:.1f}" height="{square:.1f}"'
        drawn = f'<rect {corner} {sides} fill="#4477aa" opacity=".55"/>'
        rows.append(
            f"<tr><td>{html.escape(name)}</td>"
            f'<td><svg width="26" height="26" aria-hidden="true">{drawn}</svg></td>'
            f"<td>{times(shape)}</td><td>{parameters:,}</td><td>{macs:,}</td></tr>"
        )
    head = "<tr><th>step</th><th></th><th>gives</th><th>parameters</th><th>multiply-adds</th></tr>"
    table = f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    return f'<p class="lead">{way}</p>{table}'


# ── reach and price ──────────────────────────────────────────────────────────────────────────────


def reach(subject: Subject) -> Section:
    found = receptive.argument(rng=np.random.default_rng(0))
    drawn, axes = canvas.figure(3, len(found), width=1.75, height=1.9)
    receptive.draw_argument(axes, found)
    body = paragraph(
        "Which pixels can a token depend on? A random cotangent is sent backward from one token: "
        "blue is where the gradient is not 0. Windows alone keep its parts separate, until maps "
        "are merged. Shifted windows join what windows part, as far as a ResNet sees or farther; "
        "a ViT sees all from its first block, at a price: see the next section."
        if not isinstance(subject.model, VisionTransformer)
        else "Which pixels can a token depend on? A random cotangent is sent backward from one "
        "token: blue is where the gradient is not 0. A ViT sees all from its first block; windows "
        "have to be shifted to see farther than themselves."
    )
    caption = (
        "Four small models of 64×64 images, in random weights: the reach follows from the shapes "
        "alone. The frame is the token's own part of the image. Drawn by "
        "<code>receptive.draw_field</code> from gradients of the models."
    )
    return Section("reach", "How far a token sees", body + picture(drawn, "reach", caption))


def price(subject: Subject) -> Section:
    whole, inside, C, heads, M, patch = subject.cost
    timed = any(point.seconds is not None for point in whole)
    drawn, axes = canvas.figure(1 + timed, width=3.9, height=3.1)
    cost.draw_cost(axes[0, 0], whole, inside, C=C, M=M, patch=patch)
    if timed:
        cost.draw_time(axes[0, 1], whole, inside, patch=patch)
    body = paragraph(
        "Attention over a whole map of h×w tokens costs 4hwC² + 2(hw)²C multiply-adds: twice the "
        "side, up to sixteen times the work. In windows of M×M tokens it is 4hwC² + 2M²hwC: twice "
        "the side, four times the work."
    )
    caption = (
        f"C = {C} channels, {heads} heads, M = {M}; h = w = {_few(p.side for p in whole)} tokens, "
        f"patches of {patch}×{patch} pixels. Lines: the formulas. Points: multiply-adds counted "
        "operation by operation while the layers ran. "
        + ("Times were measured now, on this machine. " if timed else "")
        + "Drawn by <code>cost.draw_cost</code>."
    )
    return Section("cost", "What attention costs", body + picture(drawn, "cost", caption))


def _few(numbers: Iterable[int]) -> str:
    """7, 14 and 28"""
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


# ── features and answer ──────────────────────────────────────────────────────────────────────────


def described(subject: Subject) -> Section:
    maps = features.feature_maps(subject.model, subject.x)
    drawn, axes = canvas.figure(6, len(maps), width=1.35, height=1.5)
    for line, found in zip(axes, maps, strict=True):
        channels = features.lively_channels(found, 6)
        for place in line[len(channels) :]:
            canvas.clear(place)
        for place, channel in zip(line, channels, strict=False):
            features.draw_channel(place, found, channel)
        line[0].set_ylabel(times(found.shape), fontsize=7)
    body = paragraph("After every stage a token is a list of channels. These vary most over it:")
    if not isinstance(subject.model, SwinTransformer) and len(maps) == 1:
        body = paragraph("After the last block a token is a list of channels, which vary like so:")
    caption = (
        "Red is above 0, blue below; every channel has its own scale. Drawn by "
        "<code>features.draw_channel</code>."
    )
    return Section(
        "features",
        "What it makes of images",
        body + picture(drawn, "feature maps", caption, wide=560) + _plane(subject),
    )


def _plane(subject: Subject) -> str:
    name, x, labels, classes = subject.examples
    own = Other(subject.model.name, subject.model, x, subject.classes)
    models, methods = [own, *subject.others], planes.methods_here()
    vectors = {one.name: features.pooled_features(one.model, one.x) for one in models}
    width = 5.2 if len(models) == 1 else 3.1
    drawn, axes = canvas.figure(len(models), len(methods), width=width, height=0.3 + 0.6 * width)
    planes.draw_planes(axes, vectors, labels, classes, methods=methods)
    strange = [one.name for one in models if set(classes) != set(one.classes)]
    caption = (
        f"What the head is given for {len(x)} test images of {html.escape(name)}, on the plane "
        "where it varies most. "
        + ("Below by t-SNE, which keeps neighbours together. " if len(methods) > 1 else "")
        + (f"Not trained on these classes: {html.escape(', '.join(strange))}. " if strange else "")
        + "Drawn by <code>planes.draw_planes</code>."
    )
    shown = picture(drawn, "images as points", caption, wide=240 * len(models))
    return "<h3>Images as points</h3>" + shown


def answered(subject: Subject) -> Section:
    order = np.argsort(-subject.probabilities)[:10]
    rows = "".join(
        f"<tr><td>{html.escape(subject.classes[k])}</td>"
        f'<td><i style="width:{100 * subject.probabilities[k]:.2f}%"></i></td>'
        f"<td>{subject.probabilities[k]:.1%}</td></tr>"
        for k in order
    )
    body = paragraph(
        "The tokens are reduced to one vector, a linear map turns it into a number for each class, "
        "and a softmax turns these into probabilities."
    )
    shown = f'<div class="scroll"><table class="bars">{rows}</table></div>'
    return Section("answer", "What it says", body + shown)

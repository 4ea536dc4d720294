"""The sections of the report on attention: windows, who looks at whom, where a token is."""

from __future__ import annotations

from typing import Any

import numpy as np

from minswin.arrays import to_numpy
from minswin.autograd import no_grad
from minswin.layers.windows_v2 import BIAS, WindowAttentionV2
from minswin.look import attention, canvas, masks, positions, windows
from minswin.look.attention import Attention
from minswin.look.page.subject import Section, Subject, paragraph, picture, sheet, spaced
from minswin.look.tables import times
from minswin.models import VisionTransformer
from minswin.models.base import patch_grid
from minswin.reference.windows import shift_regions

# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def shifted(subject: Subject, seen: list[Attention]) -> Section:
    model_shifts = [record for record in seen if any(record.shift)]
    record = (model_shifts or seen)[0]
    padded = _padded(subject.pixels, record)
    geometry = record.covered, record.window, record.shift
    body = paragraph(
        "Attention between all tokens would cost the square of their number. So the map is cut "
        f"into windows of {times(record.window)} tokens, and tokens meet only those of their own "
        "window. "
        + (
            "In every second block the windows are displaced by half a window, and what was "
            "parted meets."
            if model_shifts
            else "No block of this model displaces its windows."
        )
    )
    drawn, axes = canvas.figure(3 if model_shifts else 1, width=2.7, height=2.9)
    windows.draw_windows(axes[0, 0], padded, record.covered, record.window, (0, 0))
    caption = (
        f"{record.name.capitalize()}, a map of {times(record.grid)} tokens. A window has its "
        "number where there is room for it, and another colour than those that it touches. "
    )
    if model_shifts:
        windows.draw_windows(axes[0, 1], padded, *geometry)
        windows.draw_rolled(axes[0, 2], padded, *geometry)
        caption += (
            "Shifted windows are made by a roll: what leaves at the top and left comes back at the "
            "bottom and right, so pieces of one number are one window; see "
            "<code>windows.draw_rolled</code>. "
        )
    caption += "Drawn by <code>windows.draw_windows</code>."
    body += picture(drawn, "windows and shifted windows on the image", caption, wide=640)
    if model_shifts:
        body += _masked(subject.model, padded, geometry)
    return Section("windows", "Windows and shifted windows", body)


def _masked(model: Any, pixels: np.ndarray, geometry: Any) -> str:
    grid, window, shift = geometry
    different = masks.distinct_masks(*geometry)
    drawn, axes = canvas.figure(2, width=2.7, height=2.9)
    windows.draw_regions(axes[0, 0], *geometry)
    masks.draw_visible(axes[0, 1], pixels, grid, window, shift, (0, 0))
    caption = (
        f"Left: the rolled map holds {len(np.unique(shift_regions(*geometry)))} regions, and white "
        "lines part its windows. Two tokens of a window may see each other if they are of one "
        "region, for then they are neighbours in the image too. Right: what the first token may "
        "look at; red lines bound its window. Drawn by <code>windows.draw_regions</code> and "
        "<code>masks.draw_visible</code>."
    )
    body = picture(drawn, "the regions of the rolled map", caption, wide=430)
    drawn, axes = canvas.figure(len(different), width=2.05, height=2.4)
    for place, mask in zip(axes[0], different, strict=True):
        masks.draw_mask(place, mask, window)
    count = sum(len(mask.windows) for mask in different)
    caption = (
        f"The {len(different)} different masks of the {count} windows: "
        "blue where a query (row) may see a key (column). "
        f"{left_over(model)} Drawn by <code>masks.draw_mask</code>."
    )
    return body + picture(drawn, "the masks as matrices", caption, wide=640)


def left_over(model: Any) -> str:
    """What a masked key still gets. The logits of Swin V2 are bounded: τ cos + B."""
    layers = [x for x in model.layers_within() if isinstance(x, WindowAttentionV2)]
    if not layers:
        return "Elsewhere −100 is added to the logit, and a share of about e⁻¹⁰⁰ is left."
    with no_grad():
        largest = max(float(to_numpy(layer.scale().data).max()) for layer in layers)
    taken, apart = min(-layer.mask_value for layer in layers), 2 * largest + BIAS
    mask = "∞" if np.isinf(taken) else f"{taken:g}"
    said = (
        f"Elsewhere −{mask} is added to the logit, τ cos(q, k) + B. The logits of a query lie "
        f"at most 2τ + 16 = {apart:.0f} apart, for no τ of this model is above {largest:.0f}, so "
    )
    if apart < taken:
        left = "nothing" if np.isinf(taken) else f"less than e^−{taken - apart:.0f}"
        return said + f"of a key's share {left} is left."
    return said + "a masked key may still get a share."


def _padded(pixels: np.ndarray, record: Attention) -> np.ndarray:
    """The image with the padding of its map, in white."""
    high, wide = pixels.shape[1] // record.grid[0], pixels.shape[2] // record.grid[1]
    below = (record.covered[0] - record.grid[0]) * high
    right = (record.covered[1] - record.grid[1]) * wide
    return np.pad(pixels, ((0, 0), (0, below), (0, right)), constant_values=255)


# ── attention ────────────────────────────────────────────────────────────────────────────────────

EXPLORER = """<div class="explorer" id="explorer">
<div><canvas class="main" tabindex="0" role="img"
 aria-label="What a token attends to; move it with the arrow keys"></canvas>
<div class="readout" aria-live="polite"></div></div>
<div class="controls"><label for="block">block</label><select id="block"></select><br>
<button class="mean" aria-pressed="true">mean of heads</button>
<button class="may" aria-pressed="false">what it may see</button>
<button class="class-token" hidden>class token</button>
<div class="heads"></div></div></div>
<noscript><p class="note">Pointing at tokens needs JavaScript; the pictures below do not.</p>
</noscript>"""


def attended(subject: Subject, seen: list[Attention]) -> Section:
    """The pictures of attention; what `explored` gives stands before them."""
    body = _class_token(subject, seen) if seen[0].front else ""
    return Section("attention", "Who looks at whom", body + _rolled_out(subject, seen))


def explored(data: dict[str, Any]) -> str:
    """Attention to point at, for the blocks of `explorer_data`."""
    body = paragraph(
        "Point at a token (or tap it, or move with the arrow keys): the colour says how much it "
        "takes from each other token. Everything is at its place in the image: windows and shift, "
        "where there are any, are undone. The probabilities are those of the model's own forward."
    )
    body = body + EXPLORER if data["blocks"] else ""
    if data["left_out"] or data["heads_left_out"]:
        names = ", ".join(data["left_out"]) or "no block"
        heads = "; of the others, only the first heads are here" if data["heads_left_out"] else ""
        body += f'<p class="lead">To keep the page small it leaves out: {names}{heads}.</p>'
    return body


def _class_token(subject: Subject, seen: list[Attention]) -> str:
    shown = spaced(seen)
    drawn, axes = sheet(len(shown))
    for place, record in zip(axes.ravel(), shown, strict=False):
        attention.draw_attention(place, subject.pixels, record, None, title=record.name)
    caption = (
        "What the class token looks at, mean of the heads. Drawn by "
        "<code>attention.draw_attention</code>."
    )
    return "<h3>The class token</h3>" + picture(
        drawn, "attention of the class token", caption, wide=560
    )


def _rolled_out(subject: Subject, seen: list[Attention]) -> str:
    shares = attention.rollout(seen)
    shown = spaced(list(zip(seen, shares, strict=True)))
    drawn, axes = sheet(len(shown))
    for place, (record, share) in zip(axes.ravel(), shown, strict=False):
        attention.draw_rollout(place, subject.pixels, share, title=f"after {record.name}")
    caption = (
        "Attention through all blocks so far: half of a token stays, half comes from where it "
        "looks. A share of a patch in the answer by attention alone; what values and MLPs do with "
        "it is left out. Drawn by <code>attention.draw_rollout</code>."
    )
    return "<h3>Through all blocks: attention rollout</h3>" + picture(
        drawn, "rollout", caption, wide=560
    )


# ── positions ────────────────────────────────────────────────────────────────────────────────────


def biased(subject: Subject, seen: list[Attention]) -> Section:
    body = paragraph(
        "Attention by itself does not know where a token is. Here every head adds a number to the "
        "logit of a pair of tokens that depends on the displacement between them alone."
    )
    return Section("positions", "Where a token is", body + _biases(subject, seen))


def _biases(subject: Subject, seen: list[Attention]) -> str:
    rows = list(zip(seen, positions.bias_pictures(subject.model, seen), strict=False))
    if not rows:
        return ""
    rows, most = spaced(rows), 12
    columns = min(most, max(len(several) for _, several in rows))
    drawn, axes = canvas.figure(columns, len(rows), width=8.6 / max(columns, 6), height=1.05)
    for line, (record, several) in zip(axes, rows, strict=True):
        largest = float(abs(several).max()) or 1.0
        for place in line:
            canvas.clear(place)
        for place, head in zip(line, several, strict=False):
            place.set_axis_on()
            positions.draw_bias(place, head, largest=largest)
        line[0].set_title(record.name, fontsize=7, loc="left")
    M = rows[0][0].window
    caption = (
        f"The relative position bias, heads side by side (up to {most}): "
        f"{times((2 * M[0] - 1, 2 * M[1] - 1))} displacements of a query from its key, which is at "
        "the cross. Red is added, blue taken away; each block has its own scale. Drawn by "
        "<code>positions.draw_bias</code>."
    )
    return picture(drawn, "relative position biases", caption, wide=560)


def placed(subject: Subject, seen: list[Attention]) -> Section:
    """The position vectors of a ViT, beside the other ways to make them."""
    model: Any = subject.model
    own = positions.position_vectors(model)
    biases = _biases(subject, seen)
    body = paragraph(
        told(model.positions),
        "How alike are the vectors of two places? Each small map belongs to one place, and shows "
        "its likeness to all.",
    )
    shown = {} if own is None else {f"{model.positions}: this model": own}
    grid, channels = patch_grid(model.img_size, model.patch_size), model.norm.weight.size
    for kind in ("learned", "learned_2d", "sinusoidal"):
        if kind != model.positions and (kind != "sinusoidal" or channels % 4 == 0):
            other = _fresh_positions(model, kind)
            state = "fixed" if kind == "sinusoidal" else "untrained"
            shown[f"{kind}: {state}"] = other
    drawn, axes = canvas.figure(len(shown), width=2.9, height=3.1)
    for place, (name, vectors) in zip(axes[0], shown.items(), strict=True):
        positions.draw_similarity(place, vectors, title=name)
    caption = (
        f"Cosine of the angle between the vectors of any two of {times(grid)} places: red is "
        "alike, white is unrelated. Drawn by <code>positions.draw_similarity</code>."
    )
    return Section(
        "positions",
        "Where a token is",
        body + picture(drawn, "similarity of positions", caption, wide=640) + biases,
    )


def told(kind: str) -> str:
    """How a ViT whose positions are of this kind tells a patch where it is."""
    if kind == "none":
        return (
            "This model does not tell a patch where it is: patches in another order would get the "
            "same answer. Other models add a vector to the token of each patch, as those below."
        )
    if kind == "relative":
        return (
            "This model adds nothing to its tokens: every head adds a number to the logit of a "
            "pair that depends on the displacement between them, shown at the end. Other models "
            "add a vector to the token of each patch, as those of the first picture."
        )
    return "A patch is told where it is by a vector that is added to its token."


def _fresh_positions(model: Any, kind: str) -> np.ndarray:
    """The vectors of another kind for the same grid and channels, as they are before training."""
    other = VisionTransformer(
        img_size=model.img_size,
        patch_size=model.patch_size,
        embed_dim=model.norm.weight.size,
        depth=0,
        num_heads=1,
        num_classes=1,
        positions=kind,
        rng=np.random.default_rng(0),
    )
    vectors = positions.position_vectors(other)
    assert vectors is not None
    return vectors

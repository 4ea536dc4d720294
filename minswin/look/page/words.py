"""The sentences of a page that depend on its model, and the lines of our code that it quotes."""

from __future__ import annotations

import html
import inspect
from typing import Any, NamedTuple

import numpy as np

from minswin.arrays import to_numpy
from minswin.autograd import no_grad
from minswin.composites import spelled_out
from minswin.layers import windows
from minswin.layers.embeddings import ConvStem, PatchEmbed
from minswin.layers.windows_v2 import BIAS, WindowAttentionV2
from minswin.layers.words import WordEmbed
from minswin.look import cost
from minswin.look.page.subject import Subject
from minswin.models import SwinTransformer
from minswin.reference import windows as reference_windows


def heading(subject: Subject, live: bool) -> str:
    """The first line of the page."""
    name, picture = html.escape(subject.model.name), html.escape(subject.samples[0].name)
    if not live:
        return f"How {name} sees {picture}"
    kind = "Swin" if isinstance(subject.model, SwinTransformer) else "Vision"
    return f"A {kind} Transformer, running in this page"


def lead(subject: Subject, live: bool) -> str:
    """Which model it is, and what a reader can do."""
    count = f"{subject.model.parameter_count():,} parameters"
    about = f"<strong>{html.escape(subject.model.name)}</strong>, {count}. "
    about += html.escape(f"{subject.origin}. ")
    if live:
        about += "Change the picture or a switch, and every number on this page follows. "
    if not subject.trained:
        about += (
            "<strong>The weights are random, for there was no file of them</strong>: shapes, "
            "windows, masks and cost are those of the model; attention and answer mean nothing yet."
        )
    return about


def about_recording(model: Any, left_out: list[str], fewer_heads: bool) -> str:
    """Why the picture of this page cannot be changed, and what is not in it."""
    millions = f"{model.parameter_count() / 1e6:,.1f} million parameters"
    text = (
        f"This page holds recorded values: it cannot run {html.escape(model.name)}, "
        f"{millions}. Shares of attention are kept in steps of 1/255 of their root. "
    )
    if left_out or fewer_heads:
        text += f"To keep the page small it leaves out: {'; '.join(left_out) or 'no block'}"
        text += "; of the other blocks only the first heads are kept. " if fewer_heads else ". "
    if any(isinstance(layer, WindowAttentionV2) for layer in model.layers_within()):
        text += about_mask_v2(model)
    return text


def about_mask_v2(model: Any) -> str:
    """What a masked key of Swin V2 still gets: its logits are bounded.        Liu et al. 2022"""
    layers = [x for x in model.layers_within() if isinstance(x, WindowAttentionV2)]
    with no_grad():
        largest = max(float(to_numpy(layer.scale().data).max()) for layer in layers)
    taken, apart = min(-layer.mask_value for layer in layers), 2 * largest + BIAS
    mask = "∞" if np.isinf(taken) else f"{taken:g}"
    bound = (
        f"The mask takes {mask} off the logit, τ cos(q, k) + B. The logits of a query lie at most "
        f"2τ + 16 = {apart:.0f} apart, for no τ of this model is above {largest:.0f}, so "
    )
    if apart < taken:
        left = "nothing" if np.isinf(taken) else f"less than e^−{taken - apart:.0f}"
        return bound + f"of a masked key's share {left} is left."
    return bound + "a masked key may still get a share."


def about_positions(kind: str) -> str:
    """How a ViT whose positions are of this kind gives a patch its place."""
    if kind == "none":
        return (
            "This model does not give a patch its place: patches in another order would get the "
            "same answer."
        )
    if kind == "relative":
        return (
            "This model adds nothing to its tokens: every head adds a number to the logit of a "
            "pair that depends on the displacement between them."
        )
    return "The place of a patch is given by a vector that is added to its token."


def about_points(subject: Subject, methods: tuple[str, ...]) -> str:
    """What the points are, and which models were not trained on these classes."""
    examples, strangers = subject.examples, []
    for sight in subject.sights:
        if set(examples.classes) != set(sight.classes):
            strangers.append(sight.name)
    text = (
        f"The vectors that the head reads for {len(examples.x)} test images of "
        f"{html.escape(examples.name)}, on the plane where they vary most; the star is the picture "
        "above. "
    )
    if "tsne" in methods:
        text += "Beside it t-SNE, which keeps neighbours together; there the star stays. "
    if strangers:
        text += f"Not trained on these classes: {html.escape(', '.join(strangers))}. "
    return text


def about_pooling(model: Any) -> str:
    """The vector that the head reads."""
    if getattr(model, "global_pool", None) == "token":
        return "the class token alone"
    return "the mean of all tokens" if hasattr(model, "patch_size") else "the mean of all places"


def about_worth(subject: Subject) -> str:
    """What the answer of this model is worth, as far as the package knows."""
    names = len(subject.classes)
    return f"This model knows {names} classes{'' if subject.trained else ', and learnt none'}."


def measured(whole: list[cost.CostPoint], inside: list[cost.CostPoint], patch: int) -> str:
    """A table of counted and timed points, or nothing."""
    if any(point.seconds is None for point in whole):
        return ""
    rows = "".join(
        f"<tr><td>{patch * a.side}</td><td>{a.macs:,}</td><td>{1e3 * float(a.seconds or 0):.2f} ms"
        f"</td><td>{b.macs:,}</td><td>{1e3 * float(b.seconds or 0):.2f} ms</td></tr>"
        for a, b in zip(whole, inside, strict=True)
    )
    head = "<tr><th>side</th><th>all with all</th><th></th><th>in windows</th><th></th></tr>"
    caption = "Counted while the layers ran, and timed, on the machine that wrote this page."
    return f'<p class="quiet">{caption}</p><div class="scroll"><table>{head}{rows}</table></div>'


def footer(difference: float | None) -> str:
    """Who wrote the page, and how exact it is."""
    text = "Written by <code>minswin explain</code>. "
    if difference is None:
        return text
    return text + (
        "The program in this page is a port of the Python package and is tested by the same kit as "
        "other ports are; its weights are float16. "
        + (
            "They were so from the beginning."
            if difference == 0
            else f"For this picture that moves the largest logit by {difference:.1g}."
        )
        + " In the console, <code>minswin.steps()</code> holds every tensor of the last run."
    )


# ── lines of our code ────────────────────────────────────────────────────────────────────────────


class Quote(NamedTuple):
    """A line of the package: the first one of a class or function that holds the fragment."""

    holder: Any
    fragment: str


QUOTES = {
    "tokens": Quote(PatchEmbed, "self.proj(x)"),
    "convolutions": Quote(ConvStem, "ops.gelu(norm(x))"),
    "words": Quote(WordEmbed, "x.reshape(n, c"),
    "attention": Quote(spelled_out, "@ k.transpose"),
    "cost": Quote(cost.wmsa_macs, "return"),
    "shifting": Quote(SwinTransformer, "j % 2 == 1"),
    "masking": Quote(reference_windows.attention_mask, "np.where"),
    "position": Quote(reference_windows.relative_position_index, "return"),
    "merging": Quote(windows.PatchMerging, "self.reduction(self.norm"),
    "limits": Quote(SwinTransformer, ".mean(axis=(1, 2))"),
}


def quoted(quote: Quote) -> tuple[str, int, str]:
    """File, number and text of a line; of the first of its holder if no line has the fragment."""
    lines, first = inspect.getsourcelines(quote.holder)
    numbers = [i for i, line in enumerate(lines) if quote.fragment in line]
    number = numbers[0] if numbers else 0
    file = quote.holder.__module__.replace(".", "/") + ".py"
    return file, max(first, 1) + number, lines[number].strip()


def code_line(name: str) -> str:
    """A quoted line of our code as HTML."""
    file, number, text = quoted(QUOTES[name])
    return f'<code class="line"><span>{file}, line {number}</span>{html.escape(text)}</code>'

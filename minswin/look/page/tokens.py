"""What a page says of the way from a picture to tokens: patches, or a few convolutions."""

from __future__ import annotations

from typing import Any, NamedTuple

from minswin.arguments import Pair
from minswin.layers.embeddings import ConvStem
from minswin.layers.words import WordEmbed

AFTER = (
    "From here on the model knows no pixels: it has a map of tokens, and everything that follows "
    "moves numbers between them or changes each for itself."
)


class Step(NamedTuple):
    """A convolution, or what cuts a map into pieces: which places one place of its result reads."""

    kernel: Pair
    stride: Pair
    padding: Pair


def steps_of(model: Any) -> list[Step]:
    """From the picture to the first map of tokens, in order; empty where there are no tokens."""
    embed = _embedding(model)
    if isinstance(embed, WordEmbed):
        whole = embed.words if embed.legacy else embed.patch
        return [*([_step(embed.proj)] if embed.legacy else []), Step(whole, whole, (0, 0))]
    before = embed.convs if isinstance(embed, ConvStem) else []
    return [] if embed is None else [_step(conv) for conv in (*before, embed.proj)]


def _step(conv: Any) -> Step:
    kh, kw = conv.weight.shape[2:]
    return Step((kh, kw), conv.stride, conv.padding)


def _embedding(model: Any) -> Any:
    """What makes the first tokens of a picture, by its name in every family; None in a ResNet."""
    ends = ("patch_embed", "patch_embeds.0")
    return next((layer for name, layer in model.named_layers() if name.endswith(ends)), None)


def about_tokens(model: Any) -> str:
    """How the pixels of a picture become tokens; nothing where they do not."""
    embed, steps = _embedding(model), steps_of(model)
    if embed is None:
        return ""
    if isinstance(embed, WordEmbed):
        return f"{_about_words(model, embed)} {AFTER}"
    channels = embed.proj.weight.shape[0]
    if isinstance(embed, ConvStem):
        ph, pw = embed.patch
        return (
            f"Convolutions of 3×3 look at the picture first, {len(embed.convs)} in a row, each "
            "with a norm and a bend, GELU; steps of two make the map smaller, until a place stands "
            f"for {ph}×{pw} pixels. A linear map makes it a token of {channels} channels. It has "
            f"seen {_seen_by_a_token(steps)} pixels, some of its neighbours’ among them, so that "
            f"edges and corners are known before attention begins. {AFTER}"
        )
    (kernel, stride, _), *_ = steps
    cut = f"The picture is cut into patches of {_by(kernel)} pixels"
    if kernel != stride:
        cut = f"For every {_by(stride)} pixels there is a patch of {_by(kernel)}"
        cut += ": they overlap" if _overlap(model) else ""
    return (
        f"{cut}. Each patch is a short list of numbers, three for each pixel, and one linear map "
        f"turns it into a token of {channels} channels. {AFTER}"
    )


def _about_words(model: Any, embed: WordEmbed) -> str:
    """Of TNT: the tokens of a patch, which make one of it."""
    (side, stride, _), words = _step(embed.proj), embed.words
    border = "sees across the borders of patches" if embed.legacy else "sees zeros beyond the patch"
    return (
        f"The picture is cut into patches of {_by(embed.patch)} pixels. A filter of {_by(side)} in "
        f"steps of {stride[0]}, which {border}, makes {_by(words)} words of "
        f"{embed.proj.weight.shape[0]} channels of each, and one linear map turns all of them "
        f"together into a token of {model.proj.weight.shape[0]} channels."
    )


def _overlap(model: Any) -> bool:
    """Whether the first convolution reads pixels of neighbouring patches."""
    steps = steps_of(model)
    return any(k > s for step in steps for k, s in zip(step.kernel, step.stride, strict=True))


def _by(pair: Pair) -> str:
    return f"{pair[0]}×{pair[1]}"


def about_walls(model: Any) -> str:
    """What gets past windows that never move."""
    if isinstance(_embedding(model), ConvStem):
        return " (But for the pixels along the wall that the convolutions saw.)"
    if _overlap(model):
        return " (But for the pixels along the wall that patches of both sides hold.)"
    return ""


def formula(model: Any) -> str:
    """A token z of pixels x, as MathML."""
    embed = _embedding(model)
    if isinstance(embed, ConvStem):
        inner = _call("gelu", _call("norm", "<mi>k</mi><mo>∗</mo><mi>x</mi>"))
        return _math("<mi>x</mi><mo>←</mo>" + inner) + "<br>" + _math("<mi>z</mi><mo>=</mo>" + _MAP)
    if isinstance(embed, WordEmbed):  # x: the words of a patch
        words = _call("norm", "<mi>x</mi>")
        return _math("<mi>z</mi><mo>=</mo>" + _call("norm", _MAP.replace("<mi>x</mi>", words)))
    normed = getattr(embed, "norm", None) is not None
    return _math("<mi>z</mi><mo>=</mo>" + (_call("norm", _MAP) if normed else _MAP))


_MAP = "<mi>W</mi><mi>x</mi><mo>+</mo><mi>b</mi>"


def _call(name: str, inner: str) -> str:
    sign = '<mo stretchy="false">'
    return f"<mi>{name}</mi>{sign}(</mo>{inner}{sign})</mo>"


def _math(inner: str) -> str:
    return f"<math>{inner}</math>"


def quote(model: Any) -> str:
    """Which line of our code makes the tokens: a name of words.QUOTES."""
    names: dict[type, str] = {ConvStem: "convolutions", WordEmbed: "words"}
    return names.get(type(_embedding(model)), "tokens")


def _seen_by_a_token(steps: list[Step]) -> str:
    """The rectangle of pixels that a token depends on: back through the convolutions."""
    rows, columns = 1, 1
    for (kh, kw), (sh, sw), _ in reversed(steps):
        rows, columns = (rows - 1) * sh + kh, (columns - 1) * sw + kw
    return f"{rows}×{columns}"

"""What a family of models is to those who read its weights, and how its tables are written.

A family lists our names: those that all libraries have, and apart those that only ours have. A line
stands for a layer, with its weight and bias, or for one parameter.
The table of a library says what differs there: our name, then theirs; `=` or one word alone is the
name of both. Our names that it does not mention are its names too. A table also has the lines of
what only some libraries have.

Indented lines go on where the one above, which ends in `*`, stops; and all our names that begin
like it follow it. `{i}` is a number, `{2i+1}` one that is computed from it. `[q,k,v]` are three
names whose arrays, put together along the first axis, make the one of the other side; 0 there is
zeros.

A third word adds:   buffer: computed again, then checked when read, and written
    checked: a buffer that newer files leave out; it is not written
    read: a name of older files; it is not written
    flat, words: as `buffer` or a plain line, with another shape (see rows)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from minswin.arguments import Pair
from minswin.models.base import Model

BIAS_TABLE = "relative_position_bias_table"
State = dict[str, np.ndarray]
Settings = dict[str, Any]
Told = Callable[[], tuple[Settings, dict[str, Settings]]]


class Facts(NamedTuple):
    """What the buffers of a file tell that its weights do not."""

    windows: dict[int, Pair]  # by stage
    grids: dict[int, Pair]  # of the maps, by stage; only where windows are shifted
    pretrained: dict[int, int]  # side of the pre-training's window, where it is another


def _no_facts(buffers: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> Facts:
    return Facts({}, {}, {})


@dataclass(frozen=True)
class Family:
    """One kind of model: its names, and what its weights tell of its settings.

    paper: its name in its paper   mark: a pattern of a name that only this family has
    names: ours   own: more of ours, as a table   tables: how those of each library differ
    settings: read from weights under our names
    base: what transformers puts before every name, but not where it saves a model without a head
    buffers: last parts of the names of arrays that follow from the model; check: compares them
    otherwise: tells of what the buffers say that a model has otherwise, where all shapes fit, or
    where tables were resized   sizes: the windows and grids that they tell, by the names of weights
    make: the buffers that files have for which the second is true, from weights, and where these do
    not tell, from the settings and the named models that they fit, or a model
    words: rows and columns of the words of a patch, of a model that has them
    fits: whether the shapes are those of this naming
    fits_settings: whether shapes that depend on several settings are those of a whole of them
    no_model: why no model of the family can be these weights; "" where one can
    never: a pattern in a name, ours or another's, that this family has not
    parts: what others have and our models do not, by patterns of names
    """

    paper: str
    model: type[Model]
    mark: str
    names: str
    tables: Mapping[str, str]
    settings: Callable[[State, Facts], Settings]
    own: str = ""
    base: str = ""
    buffers: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], Facts] = field(
        default=_no_facts
    )
    otherwise: Callable[[Any, Mapping[str, np.ndarray], Facts, bool], Iterable[str]] = field(
        default=lambda model, buffers, facts, resized: ()
    )
    sizes: Callable[[Mapping[str, np.ndarray], Facts], dict[str, Pair]] = field(
        default=lambda weights, facts: {}
    )
    make: Callable[[State, Callable[[str], bool], Told, Any], State] = field(
        default=lambda weights, kept, told, model: {}
    )
    words: Callable[[Any], Pair | None] = field(default=lambda model: None)
    fits: Callable[[Mapping[str, np.ndarray]], bool] = field(default=lambda weights: True)
    fits_settings: Callable[[Mapping[str, np.ndarray], Settings], bool] = field(
        default=lambda weights, settings: True
    )
    no_model: Callable[[Mapping[str, np.ndarray]], str] = field(default=lambda weights: "")
    never: str = ""

    @property
    def name(self) -> str:
        return self.model.family

    def may_be(self, weights: Mapping[str, np.ndarray], unknown: Iterable[str] = ()) -> bool:
        """Whether the weights have what only this family has, and in shapes that only it has.

        unknown: the names beside them that a table of the family does not have
        """
        if self.never and any(re.search(self.never, name) for name in (*weights, *unknown)):
            return False
        return any(re.fullmatch(self.mark, name) for name in weights) and self.fits(weights)

    def why_unknown(self, names: Iterable[str]) -> str:
        """What parts of other implementations these names are of, as sentences."""
        texts = [
            text for pattern, text in self.parts.items() for n in names if re.match(pattern, n)
        ]
        return "".join(f" {text}." for text in dict.fromkeys(texts))

    def split(self, state: Mapping[str, np.ndarray]) -> tuple[State, State]:
        """Weights, and the arrays that follow from the model; both under our names."""
        buffers = {n: x for n, x in state.items() if n.rpartition(".")[2] in self.buffers}
        return {n: x for n, x in state.items() if n not in buffers}, buffers


def count(weights: State, pattern: str) -> int:
    """One more than the largest number at the group of the pattern."""
    matches = (re.match(pattern, name) for name in weights)
    return max((int(m[1]) + 1 for m in matches if m), default=0)


def of_embedding(weights: State) -> tuple[Settings, list[int] | None]:
    """The settings of what makes tokens of an image, and the sides of a patch if they are known.

    Of convolutions those that change the channels halve the map. Patches of an odd side p may be
    overlapping ones of (p + 1)/2, whose weights have the same shape: both are told, and no stem.
    """
    channels, _, *patch = weights["patch_embed.proj.weight"].shape
    convs = count(weights, r"patch_embed\.convs\.(\d+)\.weight")
    if convs:
        halvings = len({len(weights[f"patch_embed.convs.{i}.weight"]) for i in range(convs)})
        patch = [2**halvings] * 2
        stem: Settings = {"stem": "convolutions", "stem_depth": convs // halvings - 1}
        return {"embed_dim": channels, "patch_size": tuple(patch), **stem}, patch
    if min(patch) > 1 and all(side % 2 for side in patch):
        inner = [(side + 1) // 2 for side in patch]
        either = f"{_sides(inner)} with stem=overlapping, or {_sides(patch)} with stem=patches"
        return {"embed_dim": channels, "patch_size": either}, None
    return {"embed_dim": channels, "patch_size": tuple(patch), "stem": "patches"}, patch


def _sides(patch: list[int]) -> str:
    return str(patch[0] if patch[0] == patch[1] else tuple(patch))


def image_of(grid: Iterable[int], patch: list[int] | None) -> Settings:
    """The size of the image that has so many patches of these sides; nothing if none are given."""
    return {"img_size": tuple(n * p for n, p in zip(grid, patch, strict=True))} if patch else {}


def image_of_tokens(tokens: int, patch: list[int] | None) -> Settings:
    """The same of a square map of so many tokens; where they make none, that is told in words."""
    side = isqrt(max(tokens, 0))
    if side * side == tokens:
        return image_of((side, side), patch)
    return {"img_size": f"one of {tokens:,} patches, which are no square"}

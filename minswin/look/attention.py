"""What the tokens of a model attend to: its probabilities, put back to their places in the image.

records = attention_maps(model, image)   # of every attention of the forward
looks_at(records[1], (3, 5))             # a map: how much token (3, 5) takes from each other
rollout(records)                         # through all blocks
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minswin import kernels
from minswin.arrays import Array, to_numpy
from minswin.autograd import no_grad
from minswin.look.canvas import bare, show_image, stretch
from minswin.look.masks import mark
from minswin.look.windows import cut, put_back, slots
from minswin.models.base import patch_grid
from minswin.reference.attention import attention
from minswin.reference.windows import patch_merge
from minswin.watch import Operation, watching

__all__ = [
    "Attention",
    "attention_maps",
    "draw_attention",
    "draw_rollout",
    "looks_at",
    "places",
    "rollout",
]

Pair = tuple[int, int]


class Attention(NamedTuple):
    """One attention of a forward, on one image. Attention over the whole image is one window."""

    stage: int
    block: int  # of its stage
    probabilities: np.ndarray  # (windows, h, N, N): of each query (row) for each key
    window: Pair
    shift: Pair  # (0, 0): not shifted
    covered: Pair  # the map that the windows cover, its padding included
    grid: Pair  # the map itself
    front: int  # tokens before those with a place, such as the class token

    @property
    def name(self) -> str:
        return f"stage {self.stage}, block {self.block}"


# ── recording ────────────────────────────────────────────────────────────────────────────────────


def attention_maps(model: Any, image: Array) -> list[Attention]:
    """Every attention of one forward, in order; of TNT those between patches.

    Left out is attention to fewer keys than queries, as to the summaries of Twins.
    image (3, H, W), normalised as for training. Probabilities are those of the model: its
    definition of attention gets the identity instead of the values, so that its answer is P.
    """
    batch = image.reshape(1, *image.shape[-3:])
    size = batch.shape[2], batch.shape[3]
    patch = getattr(model, "patch_size", None)
    watch = _Watch(patch_grid(size, patch) if patch else size)
    with model.evaluating(), no_grad(), kernels.using("reference"), watching(watch, model):
        model(batch)
    return watch.records


class _Watch:
    """Follows the operations of a forward: which map is cut into which windows, who attends."""

    def __init__(self, patches: Pair) -> None:
        self.records: list[Attention] = []
        self.patches = patches
        self._forget()

    def _forget(self) -> None:
        self.grid: Pair | None = None
        self.window: Pair | None = None
        self.covered = self.shift = (0, 0)

    def __call__(self, operation: Operation) -> None:
        name, inputs, settings = operation.name, operation.arrays, operation.settings
        if name == "pad":
            self.grid = inputs[0].shape[1:3]  # before its padding
        elif name == "roll" and min(settings["shift"]) < 0:  # and not the way back
            self.shift = -settings["shift"][0], -settings["shift"][1]
        elif name == "window_partition":
            self.window, self.covered = settings["window"], inputs[0].shape[1:3]
        elif name == "attention":
            q, k, _, bias = (None if x is None else to_numpy(x) for x in inputs)
            assert q is not None and k is not None
            if len(q) == 1 and q.shape[-2] == k.shape[-2]:  # not words inside of patches
                self._enter(q, k, bias, operation.layer or "")
            self._forget()
        elif name == "patch_merge":
            self._forget()

    def _enter(self, q: np.ndarray, k: np.ndarray, bias: np.ndarray | None, layer: str) -> None:
        N, (stage, block) = k.shape[-2], _stage_and_block(layer)
        identity = np.broadcast_to(np.eye(N, dtype=q.dtype), (*k.shape[:-1], N))
        p = attention(q, k, identity, bias)[0][0]  # (windows, h, N, N) or (h, N, N)
        if self.window is None:
            grid, front = _whole_map(N, self.patches)
            geometry = (grid, (0, 0), grid, grid, front)
            self.records.append(Attention(stage, block, p[None], *geometry))
        else:
            geometry = (self.window, self.shift, self.covered, self.grid or self.covered, 0)
            self.records.append(Attention(stage, block, p, *geometry))


def _stage_and_block(layer: str) -> Pair:
    """The last two numbers in the name of a layer, or 0 and the only one: layers.2.blocks.5.attn"""
    numbers = [int(part) for part in layer.split(".") if part.isdigit()]
    stage, block = [0, 0, *numbers][-2:]
    return stage, block


def _whole_map(tokens: int, patches: Pair) -> tuple[Pair, int]:
    """The map that this many tokens are of, and how many stand before those with a place."""
    H, W = patches
    while H * W > tokens:  # maps are halved from stage to stage
        H, W = (H + 1) // 2, (W + 1) // 2
    return (H, W), tokens - H * W


# ── windows and shift undone ─────────────────────────────────────────────────────────────────────


def looks_at(record: Attention, token: Pair | None, *, head: int | None = None) -> np.ndarray:
    """How much a token takes from each place of the image: (H, W) probabilities.

    token: (row, column) in the map, or None for the class token   head: None for their mean
    They sum to 1, less what goes to the class token, or to the padding of the map.
    """
    p = record.probabilities.mean(axis=1) if head is None else record.probabilities[:, head]
    if token is None and not record.front:
        raise ValueError(f"looks_at: {record.name} has no class token; give token=(row, column)")
    if record.front:
        row = 0 if token is None else record.front + token[0] * record.grid[1] + token[1]
        return p[0, row, record.front :].reshape(record.grid)
    place = places(record)  # (H, W)
    N = p.shape[-1]
    number, query = divmod(int(place[token]), N)
    shares: np.ndarray = np.where(place // N == number, p[number, query, place % N], 0)
    return shares  # (H, W)


def places(record: Attention) -> np.ndarray:
    """For each token of the map, its number among those of all windows: (H, W)."""
    place = slots(record.covered, record.window, record.shift)
    return place[: record.grid[0], : record.grid[1]]


# ── through all blocks ───────────────────────────────────────────────────────────────────────────


def rollout(records: list[Attention]) -> list[np.ndarray]:
    """How much the answer may draw on each patch, after each block.   Abnar & Zuidema 2020, §3.1

        R ← (P R + R) / 2        P: mean over the heads   R: tokens × patches, at first 1

    gives maps (H, W) of patches: the row of the class token or, where there is none, the mean row.
    Where maps are merged, R becomes the mean of the four that patch_merge brings together.
    """
    grid, front = records[0].grid, records[0].front
    R: np.ndarray = np.eye(front + grid[0] * grid[1], dtype=np.float32)
    maps = []
    for i, record in enumerate(records):
        if i and record.stage > records[i - 1].stage:
            R = _merged(R, records[i - 1].grid)
        R = (_through(record, R) + R) / 2
        row = R[0] if front else R.mean(axis=0)  # (tokens,)
        maps.append(row[front:].reshape(grid))
    return maps


def _through(record: Attention, R: np.ndarray) -> np.ndarray:
    """P R: every token takes from the tokens of its window."""
    p = record.probabilities.mean(axis=1)  # (windows, N, N)
    if record.front:
        return p[0] @ R
    (H, W), covered = record.grid, record.covered
    x = R.reshape(1, H, W, -1)
    x = np.pad(x, ((0, 0), (0, covered[0] - H), (0, covered[1] - W), (0, 0)))
    x = put_back(p @ cut(x, record.window, record.shift), record.window, record.shift, covered)
    return x[0, :H, :W].reshape(len(R), -1)


def _merged(R: np.ndarray, grid: Pair) -> np.ndarray:
    """The rows of R for tokens that each stand for 2×2 of a map of size `grid`."""
    x = R.reshape(1, *grid, -1)
    x = np.pad(x, ((0, 0), (0, grid[0] % 2), (0, grid[1] % 2), (0, 0)))
    four, _ = patch_merge(x)  # (1, H/2, W/2, 4·patches)
    return four.reshape(-1, 4, R.shape[1]).mean(axis=1)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def draw_attention(
    axes: Any,
    pixels: np.ndarray,
    record: Attention,
    token: Pair | None,
    *,
    head: int | None = None,
    title: str | None = None,
) -> Any:
    """What one token looks at, on the image: the stronger the colour, the more it takes."""
    share = looks_at(record, token, head=head)
    show_image(axes, pixels, tint=stretch(share) ** 0.6)
    if token is not None:
        mark(axes, token, record.grid, (pixels.shape[1], pixels.shape[2]))
    who = "mean of heads" if head is None else f"head {head}"
    return bare(axes, f"{record.name}, {who}" if title is None else title)


def draw_rollout(axes: Any, pixels: np.ndarray, share: np.ndarray, *, title: str = "") -> Any:
    """What the answer may draw on, by attention alone: a map from `rollout`."""
    show_image(axes, pixels, tint=stretch(share - share.min()))
    return bare(axes, title)

"""Why roll and mask are right: SW-MSA equals plain attention in every rectangle of the image.

Displaced windows cut the image at 2, 6, 10, … where plain windows cut it at 4, 8, 12, … The pieces
at the border are smaller. The oracle takes this literally: it attends in each piece by itself, and
knows no roll and no mask. If both give the same numbers, for value and gradient, then rolling,
masking and rolling back are nothing but a fast way to do it.
Run: python examples/04_region_oracle.py        Then read: tests/test_mask.py
"""

from itertools import pairwise, product

import numpy as np

from minswin import Tensor, ops
from minswin.composites import merge_heads, split_heads
from minswin.layers import WindowAttention
from minswin.layers.attention import attend

H, W, M, s = 12, 8, 4, 2
rng = np.random.default_rng(0)
layer = WindowAttention(6, 3, (M, M), shift=True, rng=rng, dtype=np.float64)
for p in layer.parameters():  # fresh ones are so small that mistakes would not show
    p.data[...] = rng.standard_normal(p.shape)


def cuts(length):
    return [0, *range(s, length, M), length]


def pieces():
    """The rectangles (top, bottom, left, right) that displaced windows cut from the image."""
    for (top, bottom), (left, right) in product(pairwise(cuts(H)), list(pairwise(cuts(W)))):
        yield top, bottom, left, right


def in_one_piece(x, top, bottom, left, right):
    """Plain attention among the tokens of a rectangle, with the bias of each displacement."""
    h, w = bottom - top, right - left
    rows, columns = (a.ravel() for a in np.mgrid[:h, :w])
    down, along = rows[:, None] - rows, columns[:, None] - columns  # query − key
    index = (down + M - 1) * (2 * M - 1) + along + M - 1
    bias = ops.take(layer.relative_position_bias_table, index)  # (hw, hw, heads)
    tokens = x[:, top:bottom, left:right].reshape(x.shape[0], h * w, -1)  # (B, hw, C)
    q, k, v = split_heads(layer.qkv(tokens), layer.heads)  # (B, heads, hw, d) each
    y = merge_heads(attend(q, k, v, bias.transpose(2, 0, 1), None))  # (B, hw, C)
    return layer.proj(y).reshape(x.shape[0], h, w, -1)


print(f"the {H}×{W} image, one letter for each rectangle of the displaced windows:")
letters = np.zeros((H, W), dtype=str)
for letter, (top, bottom, left, right) in zip("ABCDEFGHIJKL", pieces(), strict=True):
    letters[top:bottom, left:right] = letter
print("\n".join("  " + " ".join(row) for row in letters))

x, g = rng.standard_normal((2, 2, H, W, 6))  # two images, and a random cotangent


def value_and_gradients(attention):
    """⟨g, attention(x)⟩ is differentiated in x and in every parameter."""
    image = Tensor(x, requires_grad=True)
    layer.zero_grad()
    y = attention(image)
    y.backward(g)
    return {"value": y.data, "x": image.grad, **{n: p.grad for n, p in layer.named_parameters()}}


def oracle(image):
    """Each rectangle by itself, and the answers side by side in their places."""
    answers = iter([in_one_piece(image, *piece) for piece in pieces()])
    rows = [[next(answers) for _ in pairwise(cuts(W))] for _ in pairwise(cuts(H))]
    return ops.concatenate(*(ops.concatenate(*row, axis=2) for row in rows), axis=1)


fast, slow = value_and_gradients(layer), value_and_gradients(oracle)
print("\nlargest difference between roll + mask and one rectangle after the other:")
for name in fast:
    difference = abs(fast[name] - slow[name]).max()
    print(f"  {name:30} {difference:.1e}   of {abs(slow[name]).max():.2f}")
    assert difference < 1e-12

layer.shift = False
difference = abs(layer(Tensor(x)).data - slow["value"]).max()
print(f"\nand for comparison, windows without the shift: {difference:.1f}")

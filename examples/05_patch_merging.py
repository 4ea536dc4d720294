"""Patch merging: which of the four neighbours comes first, and why it is almost a convolution.

Run: python examples/05_patch_merging.py        Then read: PatchMerging in minswin/layers/windows.py
"""

import numpy as np

from minswin import Tensor, ops
from minswin.layers import PatchMerging

# Every token is its own number, so that one sees where it goes.
tokens = np.arange(24).reshape(1, 4, 6, 1)
merged = ops.patch_merge(Tensor(tokens)).numpy()  # (1, 2, 3, 4)
print("a 4×6 map:")
print(tokens[0, :, :, 0])
print("merged, 2×3 tokens with four channels each: up-left, down-left, up-right, down-right")
print("\n".join("   ".join(f"{token!s:15}" for token in row) for row in merged[0].tolist()))
assert merged[0, 0, 0].tolist() == [0, 6, 1, 7]  # down before right

# Reading each neighbourhood like a text, right before down, gives other numbers of the same shape.
rng = np.random.default_rng(0)
layer = PatchMerging(5, rng=rng, dtype=np.float64)
layer.norm.weight.data[...] = rng.uniform(0.5, 1.5, 20)
layer.norm.bias.data[...] = rng.standard_normal(20)
x = rng.standard_normal((2, 4, 6, 5))
right = layer(Tensor(x)).data  # (2, 2, 3, 10)


def in_order(x, order):
    """Merge with the neighbours (down, right) of each 2×2 in another order."""
    groups = np.concatenate(
        [x[:, down::2, to::2] for down, to in order], axis=-1
    )  # (B, H/2, W/2, 4C)
    return layer.reduction(layer.norm(Tensor(groups))).data


PUBLISHED, AS_TEXT = [(0, 0), (1, 0), (0, 1), (1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]
print(
    f"\nin the published order: largest difference {abs(in_order(x, PUBLISHED) - right).max():.1e}"
)
print(f"in the order of a text: largest difference {abs(in_order(x, AS_TEXT) - right).max():.1f}")

# Weights that were trained in one order serve the other, with their columns in that order.
columns = np.arange(20).reshape(4, 5)[[0, 2, 1, 3]].ravel()
for p in (layer.reduction.weight, layer.norm.weight, layer.norm.bias):
    p.data[...] = p.data[..., columns]
difference = abs(in_order(x, AS_TEXT) - right).max()
print(f"as a text, with its columns sorted: difference {difference:.1e}")
assert difference < 1e-12

# Without the norm, gathering four neighbours and reducing 4C to 2C is a 2×2 convolution, stride 2.
weight = layer.reduction.weight.data  # (2C, 4C)
kernel = weight.reshape(10, 2, 2, 5).transpose(
    0, 3, 1, 2
)  # (2C, C, down, right): now a text's order
images = x.transpose(0, 3, 1, 2)  # (B, C, H, W)
convolved = ops.conv2d(Tensor(images), Tensor(kernel), None, stride=(2, 2), padding=(0, 0)).data
groups = np.concatenate([x[:, down::2, to::2] for down, to in AS_TEXT], axis=-1)
difference = abs(convolved.transpose(0, 2, 3, 1) - groups @ weight.T).max()
print(f"a convolution and the merge without its norm: largest difference {difference:.1e}")
assert difference < 1e-12
print("the norm over all 4C channels stands between the two, so the whole layer is no convolution")

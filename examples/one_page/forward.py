"""Swin on one page of NumPy: the trained model's forward pass, from its file to its answer.

Nothing of minswin is imported; each piece names the definition that it spells out.
Run: python examples/one_page/forward.py        Then read: examples/one_page/backward.py
"""

import json
from math import erf
from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[2] / "minswin/pretrained/swin_cifar_small.safetensors"
M, DEPTHS, HEADS = 4, (2, 2, 2), (2, 4, 8)  # windows of 4×4 tokens; blocks and heads of each stage


def linear(x, w, name):  # reference/linear.py
    return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)


def norm(x, w, name):  # reference/normalize.py: every token to mean 0 and variance 1, then scaled
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * w[name + ".weight"] + w[name + ".bias"]


def gelu(x):  # reference/elementwise.py: x Φ(x), Φ the normal distribution
    return x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2


def softmax(x):  # reference/normalize.py
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def partition(x):  # reference/windows.py: a map (H, W, C) cut into windows (nW, N, C), N = M·M
    H, W, C = x.shape
    return x.reshape(H // M, M, W // M, M, C).swapaxes(1, 2).reshape(-1, M * M, C)


def attention(x, w, name, h, s):  # layers/windows.py: h heads; W-MSA where s is 0, else SW-MSA
    H, W, C = x.shape
    qkv = partition(np.roll(linear(x, w, name + ".qkv"), (-s, -s), (0, 1)))  # (nW, N, 3C)
    # the 3C channels are q, then k, then v, and each of these is head after head
    q, k, v = qkv.reshape(-1, M * M, 3, h, C // h).transpose(2, 0, 3, 1, 4)  # (nW, h, N, d) each
    place = np.stack(np.divmod(np.arange(M * M), M))  # (2, N): row and column in the window
    dy, dx = place[:, :, None] - place[:, None] + M - 1  # (N, N) each: from a key to its query
    bias = w[name + ".relative_position_bias_table"][dy * (2 * M - 1) + dx]  # (N, N, h)
    logits = q @ k.swapaxes(-1, -2) / (C // h) ** 0.5 + bias.transpose(2, 0, 1)  # (nW, h, N, N)
    if s:  # the roll made strangers neighbours: mask the pairs from different regions
        # on each axis 0: before the last window; 1: it was there; 2: it came from the other end
        rows, columns = (np.digitize(np.arange(n), (n - M, n - s)) for n in (H, W))
        region = partition((3 * rows[:, None] + columns)[:, :, None])  # (nW, N, 1)
        logits += np.where(region == region.swapaxes(1, 2), 0, -100)[:, None]
    y = (softmax(logits) @ v).swapaxes(1, 2)  # reference/attention.py: (nW, N, h, d)
    y = y.reshape(H // M, W // M, M, M, C).swapaxes(1, 2).reshape(H, W, C)  # the windows joined
    return linear(np.roll(y, (s, s), (0, 1)), w, name + ".proj")


def swin(image, w):  # models/swin.py: an image (3, H, W) to one logit for each class
    C, _, p, _ = w["patch_embed.proj.weight"].shape
    H, W = image.shape[1] // p, image.shape[2] // p
    x = image.reshape(3, H, p, W, p).transpose(1, 3, 0, 2, 4).reshape(H, W, -1)  # p×p patches
    x = x @ w["patch_embed.proj.weight"].reshape(C, -1).T + w["patch_embed.proj.bias"]
    x = norm(x, w, "patch_embed.norm")  # (H/p, W/p, C)
    for i, (depth, h) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        if i:  # PatchMerging, layers/embeddings.py: 2×2 neighbours become one token
            # (row, column) = (0,0), (1,0), (0,1), (1,1): the row varies fastest
            x = np.concatenate([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], -1)
            x = norm(x, w, f"layers.{i - 1}.downsample.norm")
            x = linear(x, w, f"layers.{i - 1}.downsample.reduction")  # (H/2, W/2, 2C)
        for j in range(depth):  # SwinBlock, eq. (3): every second one is shifted by half a window
            name, s = f"layers.{i}.blocks.{j}", M // 2 if j % 2 and len(x) > M else 0
            x = x + attention(norm(x, w, name + ".norm1"), w, name + ".attn", h, s)
            y = gelu(linear(norm(x, w, name + ".norm2"), w, name + ".mlp.fc1"))
            x = x + linear(y, w, name + ".mlp.fc2")
    return linear(norm(x, w, "norm").mean((0, 1)), w, "head")


def read(path):  # weights/files: eight bytes of length, names and places as JSON, the numbers
    blob, weights = path.read_bytes(), {}
    start = 8 + int.from_bytes(blob[:8], "little")
    entries = json.loads(blob[8:start])
    about = json.loads(entries.pop("__metadata__")["minswin"])["data"]
    for name, entry in entries.items():
        first, end = entry["data_offsets"]
        array = np.frombuffer(blob[start:][first:end], np.float16).reshape(entry["shape"])
        weights[name.removeprefix("weights/")] = array.astype(np.float64)
    return weights, about["classes"], *np.reshape([about["mean"], about["std"]], (2, 3, 1, 1))


def ship():  # a picture (3, 32, 32): bridge, hull, sea, sky
    y, x = np.mgrid[:32, :32]
    hull = (y > 15) & (y < 23) & (x > y - 13) & (x < 47 - y)
    bridge = (abs(y - 12) < 4) & (abs(x - 15) < 6)
    part = np.select([bridge, hull, y > 20], [0, 1, 2], 3)
    colours = [240, 240, 240], [60, 50, 50], [40, 70, 90], [200, 205, 210]
    return np.array(colours)[part].transpose(2, 0, 1) / 255


if __name__ == "__main__":
    weights, classes, mean, std = read(PATH)
    p = softmax(swin((ship() - mean) / std, weights))
    print(*(f"{classes[c]:10} {p[c]:.12f}" for c in np.argsort(-p)[:3]), sep="\n")

"""Find the bug: sixty lines of NumPy that are right on every square image, and wrong on others.

`port` is two Swin blocks as somebody might write them: W-MSA, then SW-MSA. One line is wrong. All
shapes fit, nothing crashes, and on square images every number is right. minswin writes down every
step of the way once (a trace), says which tensor of the port is the first wrong one, and tries
which mistake in its own text gives exactly the port's numbers. It ends with that line as it
should be, and as the port has it. Mend yours and run it again, until there is no divergence. Half
a minute.
Run: python examples/16_find_the_bug.py        Then read: minswin/crosscheck/compare.py
"""

import math
import tempfile
from pathlib import Path

import numpy as np

from minswin.crosscheck.commands import run_compare, run_trace

HEADS, M = 3, 4


def linear(x, p, name):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(x, p, name):
    x = x - x.mean(-1, keepdims=True)
    return (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]
    )


def cut(x):
    B, H, W, C = x.shape
    x = x.reshape(B, H // M, M, W // M, M, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, M * M, C)


def join(x, H, W):
    B, _, _, C = x.shape
    x = x.reshape(B, W // M, H // M, M, M, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)


def mask(H, W, s):
    region = np.zeros((1, H, W, 1))
    for i, rows in enumerate([slice(0, -M), slice(-M, -s), slice(-s, None)]):
        for j, columns in enumerate([slice(0, -M), slice(-M, -s), slice(-s, None)]):
            region[:, rows, columns] = 3 * i + j
    region = cut(region)[0, :, :, 0]  # (windows, N)
    return np.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)[:, None]


def bias(table):
    row, column = np.divmod(np.arange(M * M), M)
    down, along = row[:, None] - row, column[:, None] - column
    return table[(down + M - 1) * (2 * M - 1) + along + M - 1].transpose(2, 0, 1)  # (h, N, N)


def attention(x, p, name, s, seen):
    B, H, W, C = x.shape
    x = np.roll(linear(x, p, f"{name}.qkv"), (-s, -s), axis=(1, 2))
    x = seen[f"{name}.windows"] = cut(x)  # (B, windows, N, 3C)
    q, k, v = x.reshape(B, -1, M * M, 3, HEADS, C // HEADS).transpose(3, 0, 1, 4, 2, 5)
    logits = q @ k.swapaxes(-1, -2) / math.sqrt(C // HEADS)
    logits += bias(p[f"{name}.relative_position_bias_table"])
    if s:
        logits += mask(H, W, s)
    seen[f"{name}.logits"] = logits  # (B, windows, h, N, N)
    e = np.exp(logits - logits.max(-1, keepdims=True))
    x = e / e.sum(-1, keepdims=True) @ v  # (B, windows, h, N, d)
    x = seen[f"{name}.merged"] = x.swapaxes(2, 3).reshape(B, -1, M * M, C)
    x = seen[f"{name}.map"] = np.roll(join(x, H, W), (s, s), axis=(1, 2))
    return linear(x, p, f"{name}.proj")


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def port(x, p):
    """Both blocks on a map (B, H, W, C) with weights p: the steps by minswin's names."""
    seen = {}
    for i in range(2):
        name = f"layers.0.blocks.{i}"
        x = x + attention(layer_norm(x, p, f"{name}.norm1"), p, f"{name}.attn", i * M // 2, seen)
        seen[f"{name}.residual"] = x
        hidden = gelu(linear(layer_norm(x, p, f"{name}.norm2"), p, f"{name}.mlp.fc1"))
        x = seen[f"{name}.output"] = x + linear(hidden, p, f"{name}.mlp.fc2")
    return seen


TWO_BLOCKS = ["depths=(2,)", "num_heads=(3,)", "embed_dim=24", "window_size=4"]
LAST = "layers.0.blocks.1.output"
place = tempfile.TemporaryDirectory()
print("a trace of each size is made, which takes some seconds ...", flush=True)
for size in [(32, 32), (48, 32)]:
    folder = Path(place.name) / "trace"
    trace = run_trace(
        "swin_shapes", folder, overrides=[*TWO_BLOCKS, f"img_size={size}"], grad=False
    )
    truth = trace.arrays["float64"]  # weights, and every step, by name
    seen = port(truth["patch_embed.norm"], truth)
    np.savez(folder.with_name("port.npz"), **seen)
    likeness = np.corrcoef(seen[LAST].ravel(), truth[LAST].ravel())[0, 1]
    text, right = run_compare(folder, folder.with_name("port.npz"))
    print(f"\n{size[0]}×{size[1]} images: the port is {'right' if right else 'wrong'}")
    print(f"its output correlates with the right one by {likeness:.6f}\n\n{text}")
place.cleanup()
if not right:
    line = text.partition("Diagnosis: ")[2].partition("\n\n")[0]
    print(f"\nIn short: {line}")
    print("your turn: find this line of ours (-) in the port, where it is as (+), and mend it")

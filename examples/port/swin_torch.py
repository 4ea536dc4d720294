"""A Swin Transformer in PyTorch, as a porter writes it on the first day. It has three mistakes.

    python swin_torch.py TRACE OUT        weights and image from a trace; every tensor to OUT/*.npy

`--fix 1`, `--fix 2`, `--fix 3` mend the first one, two, three mistakes (see port_walkthrough.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FIXED = 0  # mistakes that are mended


class Attention(nn.Module):
    """Attention in windows of M×M tokens; x (B·nW, N, C)."""

    def __init__(self, dim: int, heads: int, M: int) -> None:
        super().__init__()
        self.heads, self.M = heads, M
        self.table = nn.Parameter(torch.zeros((2 * M - 1) ** 2, heads))
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.logits, self.probs = nn.Identity(), nn.Identity()  # places for hooks

    def bias(self) -> torch.Tensor:
        M = self.M
        indexing = "ij" if FIXED >= 1 else "xy"
        grids = torch.meshgrid(torch.arange(M), torch.arange(M), indexing=indexing)
        row, col = (g.flatten() for g in grids)
        index = (row[:, None] - row + M - 1) * (2 * M - 1) + col[:, None] - col + M - 1
        return self.table[index].permute(2, 0, 1)  # (heads, N, N)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        n, N, C = x.shape
        qkv = self.to_qkv(x).reshape(n, N, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (n, heads, N, d) each
        logits = q @ k.transpose(-1, -2) * (C // self.heads) ** -0.5 + self.bias()
        if mask is not None:
            windows = len(mask)
            if FIXED >= 2:
                logits = logits + mask.repeat(n // windows, 1, 1)[:, None]
            else:
                logits = logits + mask.repeat_interleave(n // windows, 0)[:, None]
        p = self.probs(self.logits(logits).softmax(-1))  # (n, heads, N, N)
        return self.out((p @ v).transpose(1, 2).reshape(n, N, C))


def cut(x: torch.Tensor, M: int) -> torch.Tensor:
    B, H, W, C = x.shape
    x = x.reshape(B, H // M, M, W // M, M, C).transpose(2, 3)
    return x.reshape(-1, M * M, C)


def join(x: torch.Tensor, M: int, B: int, H: int, W: int) -> torch.Tensor:
    return x.reshape(B, H // M, W // M, M, M, -1).transpose(2, 3).reshape(B, H, W, -1)


def mask_of(H: int, W: int, M: int, s: int) -> torch.Tensor:
    image = torch.zeros(1, H, W, 1)
    for i, rows in enumerate((slice(0, -M), slice(-M, -s), slice(-s, None))):
        for j, columns in enumerate((slice(0, -M), slice(-M, -s), slice(-s, None))):
            image[:, rows, columns] = 3 * i + j
    labels = cut(image, M)[..., 0]  # (nW, N)
    return torch.where(labels[:, :, None] == labels[:, None, :], 0.0, -100.0)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, M: int, shift: int, hidden: int) -> None:
        super().__init__()
        self.M, self.shift = M, shift
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, M)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, H, W, _ = x.shape
        M, s = self.M, self.shift
        y = self.ln1(x)
        mask = None
        if s:
            y, mask = y.roll((-s, -s), (1, 2)), mask_of(H, W, M, s)
        y = join(self.attn(cut(y, M), mask), M, B, H, W)
        x = x + (y.roll((s, s), (1, 2)) if s else y)
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Merge(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ln, self.reduce = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)
        self.gathered = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d = (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        parts = (a, c, b, d) if FIXED >= 3 else (a, b, c, d)
        return self.reduce(self.ln(self.gathered(torch.cat(parts, -1))))


class Swin(nn.Module):
    """For images whose maps the windows divide."""

    def __init__(self, dim: int, depths: list, heads: list, patch: int, M: int, k: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, patch)
        self.ln0 = nn.LayerNorm(dim)
        self.stages = nn.ModuleList()
        for i, (depth, h) in enumerate(zip(depths, heads, strict=True)):
            C = dim * 2**i
            blocks = [Block(C, h, M, M // 2 if j % 2 else 0, 4 * C) for j in range(depth)]
            last = i == len(depths) - 1
            self.stages.append(nn.Sequential(*blocks, *([] if last else [Merge(C)])))
        self.ln, self.fc = nn.LayerNorm(C), nn.Linear(C, k)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.ln0(self.patches(image).permute(0, 2, 3, 1))
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.ln(x).mean((1, 2)))


def main() -> None:
    global FIXED
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, help="folder that minswin trace wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--fix", type=int, default=0)
    options = parser.parse_args()
    FIXED = options.fix
    (options.out / "cotangent").mkdir(exist_ok=True, parents=True)
    model = Swin(12, [2, 2], [2, 3], patch=2, M=4, k=5)
    weights = (options.trace / "weights").rglob("*.npy")  # by our names: see names.txt
    model.load_state_dict({file.stem: torch.from_numpy(np.load(file)) for file in weights})
    for name, module in model.named_modules():

        def save(_: nn.Module, __: object, y: torch.Tensor, name: str = name) -> None:
            np.save(options.out / f"{name or 'answer'}.npy", y.detach().numpy())

        module.register_forward_hook(save)
    image, labels = (np.load(options.trace / f"float64/{x}.npy") for x in ("image", "labels"))
    F.cross_entropy(model(torch.from_numpy(image).float()), torch.from_numpy(labels)).backward()
    for name, parameter in model.named_parameters():
        np.save(options.out / "cotangent" / f"{name}.npy", parameter.grad.numpy())
    print(f"{len(list(options.out.rglob('*.npy')))} tensors in {options.out}")


if __name__ == "__main__":
    main()

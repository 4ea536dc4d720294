"""What every family computes, as hashes: equal before and after a change that must move no bit.

    python -m tests.numbers before.json                  # on the old code
    python -m tests.numbers after.json --against before.json

Outputs, gradients and ten steps of SGD with momentum, with the definitions ("reference") and, where
`--kernels numba` says so, with the kernels. It uses only what users use, so it runs on both sides.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minswin
from minswin import kernels, ops
from minswin.models import Transformer

SWIN = {
    "patch_size": 2, "embed_dim": 6, "depths": (2, 2), "num_heads": (1, 3), "window_size": 2,
    "num_classes": 5, "img_size": (8, 12),
}  # fmt: skip
VIT = {
    "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 5,
    "img_size": (8, 12),
}  # fmt: skip

# name of the case: (named model, settings)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "swin": ("swin_cifar", {**SWIN, "drop_path_rate": 0.2}),
    "swin padded": ("swin_cifar", {**SWIN, "img_size": (14, 18), "window_size": 4}),
    "swin positions": ("swin_cifar", {**SWIN, "ape": True}),
    "swin recompute": ("swin_cifar", {**SWIN, "recompute": True}),
    "swin v2": ("swinv2_cifar", {**SWIN, "drop_path_rate": 0.2}),
    "vit": ("vit_cifar", {**VIT, "drop_path_rate": 0.2}),
    "vit relative": ("vit_cifar", {**VIT, "positions": "relative"}),
    "deit": ("deit_tiny", VIT),
    "deit distilled": ("deit_cifar_distilled", VIT),
    "tnt": ("tnt_cifar", {**VIT, "inner_dim": 8, "inner_num_heads": 2, "inner_stride": 2}),
    "resnet": ("resnet20", {"depths": (1, 1, 1), "width": 4, "img_size": 16, "num_classes": 5}),
    "resnet bottleneck": (
        "resnet50",
        {"depths": (1, 1, 1, 1), "width": 4, "img_size": 32, "num_classes": 5},
    ),
}


def digest(array: Any) -> str:
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()[
        :16
    ]


def logits(model: Any, x: Any) -> Any:
    """One result, whether the model has one head or two."""
    y = model(x)
    return y if not isinstance(y, tuple) else y[0] + y[1]


def image_numbers(name: str, settings: dict[str, Any], dtype: Any) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(7)
    model = minswin.create_model(name, rng=np.random.default_rng(3), dtype=dtype, **settings)
    for _, p in model.named_parameters():
        p.data += (0.2 * rng.standard_normal(p.shape)).astype(dtype)
    size = settings["img_size"]
    height, width = (size, size) if isinstance(size, int) else size
    x = rng.standard_normal((4, 3, height, width)).astype(dtype)
    targets = rng.integers(0, 5, 4)
    model.eval()
    with minswin.no_grad():
        yield "output", digest(logits(model, x).data)
    y = logits(model, x)
    y.backward(rng.standard_normal(y.shape).astype(dtype))
    for key, p in model.named_parameters():
        yield f"gradient of {key}", digest(p.grad)
    model.train()
    moments = {key: np.zeros_like(p.data) for key, p in model.named_parameters()}
    for step in range(10):
        for _, p in model.named_parameters():
            p.grad = None
        loss = ops.cross_entropy(logits(model, x), targets, smoothing=0.1)
        loss.backward()
        for key, p in model.named_parameters():
            moments[key] = 0.9 * moments[key] + p.grad
            p.data -= (0.01 * moments[key]).astype(dtype)
        yield f"loss of step {step}", digest(loss.data)
    yield (
        "weights after ten steps",
        digest(np.concatenate([p.data.ravel() for p in model.parameters()])),
    )


def word_numbers(dtype: Any) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(7)
    model = Transformer(
        13, embed_dim=8, depth=2, num_heads=2, rng=np.random.default_rng(3), dtype=dtype
    )
    source, target = rng.integers(1, 13, (3, 5)), rng.integers(1, 13, (3, 6))
    y = model(source, target)
    yield "output", digest(y.data)
    y.backward(rng.standard_normal(y.shape).astype(dtype))
    for key, p in model.named_parameters():
        yield f"gradient of {key}", digest(p.grad)


def numbers(backend: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with kernels.using(backend):
        for dtype in (np.float64, np.float32):
            kind = np.dtype(dtype).name
            for case, (name, settings) in CASES.items():
                for what, value in image_numbers(name, settings, dtype):
                    found[f"{case}, {kind}: {what}"] = value
            for what, value in word_numbers(dtype):
                found[f"transformer, {kind}: {what}"] = value
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--kernels", default="reference", choices=("reference", "numba"))
    options = parser.parse_args()
    found = numbers(options.kernels)
    options.file.write_text(json.dumps(found, indent=0), "utf-8")
    if options.against is None:
        print(f"{len(found)} numbers")
        return 0
    before = json.loads(options.against.read_text("utf-8"))
    moved = [key for key in before if found.get(key) != before[key]]
    print(f"{len(before) - len(moved)} of {len(before)} numbers are equal to the bit")
    print(*moved[:20], sep="\n")
    return bool(moved)


if __name__ == "__main__":
    sys.exit(main())

"""Keep what every submodule of a PyTorch model gives, and its gradients, for `minswin compare`.

    from torch_hooks import keep
    with keep(model) as seen:
        loss = criterion(model(images), labels)
        loss.backward()
    seen.save("theirs.npz")                            # then: minswin compare TRACE theirs.npz

Run as a program it does so for a small Swin of transformers, and prints the names:

    python examples/conformance/torch_hooks.py theirs.npz
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class Seen:
    """Arrays by the name of the module that gave them; a gradient is "cotangent/" + name."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._calls: Counter[str] = Counter()

    def output(self, name: str, y: Any) -> None:
        """The first tensor of what a module gave; a second call of the module is called NAME#2."""
        while isinstance(y, (tuple, list, Mapping)) and y:
            y = next(iter(y.values())) if isinstance(y, Mapping) else y[0]
        if not isinstance(y, torch.Tensor):
            return
        self._calls[name] += 1
        key = name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"
        self.arrays[key] = _array(y)
        if y.requires_grad:
            y.register_hook(lambda g: self.arrays.update({f"cotangent/{key}": _array(g)}))

    def save(self, file: str) -> None:
        np.savez(file, **self.arrays)


def _array(x: torch.Tensor) -> np.ndarray:
    x = x.detach().float() if x.dtype == torch.bfloat16 else x.detach()  # NumPy has no bfloat16
    return x.cpu().numpy().copy()  # a later module may write into it


@contextmanager
def keep(model: torch.nn.Module) -> Iterator[Seen]:
    """While it is open, every submodule's output is kept by its name."""
    seen, handles = Seen(), []

    def watch(name: str) -> Any:
        return lambda module, given, y: seen.output(name, y)

    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(watch(name or "output")))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                seen.arrays[f"cotangent/{name}"] = _array(parameter.grad)


def main() -> None:
    from transformers import SwinConfig, SwinForImageClassification

    torch.manual_seed(0)
    config = SwinConfig(
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
        num_labels=5,
    )
    model = SwinForImageClassification(config).eval()
    with keep(model) as seen:
        model(torch.randn(2, 3, 16, 16)).logits.square().sum().backward()
    seen.save(sys.argv[1])
    for name, array in seen.arrays.items():
        print(f"{name:60} {array.shape}")


if __name__ == "__main__":
    main()

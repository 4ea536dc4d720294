"""What another implementation of a model is here; a missing package skips, with the reason."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from ..names import Layout, State, rename, restore

INSTALL = {"torch": 'pip install "minswin[parity]"', "timm": "pip install timm"}


def need(package: str) -> Any:
    """Import a package, or skip."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        how = INSTALL.get(package.split(".")[0], INSTALL["torch"])
        pytest.skip(f"parity needs {package} ({error}): {how}", allow_module_level=True)


torch = need("torch")
torch.set_num_threads(1)


def tensor(array: np.ndarray, requires_grad: bool = False) -> Any:
    """A torch tensor with its own memory."""
    return torch.tensor(array, requires_grad=requires_grad)


def images_last(x: Any) -> np.ndarray:
    """(B, C, H, W) of torch to (B, H, W, C) of NumPy."""
    return x.detach().numpy().transpose(0, 2, 3, 1)


class Peer:
    """Another implementation of a model; `module` below is one of its models."""

    package: str
    layout: Layout
    same_order = False  # whether its parameters are defined in the order of ours

    def version(self) -> str:
        return f"{self.package} {need(self.package).__version__}"

    def build(self, settings: dict[str, Any]) -> Any:
        """A float32 model with the settings of ours, ready for evaluation."""
        raise NotImplementedError

    def logits(self, module: Any, images: Any) -> Any:
        raise NotImplementedError

    def features(self, module: Any, images: Any) -> list[np.ndarray]:
        """The map (B, H, W, C) of every stage before its merge, the last one normalised."""
        raise NotImplementedError

    def renamed(self, module: Any, state: State) -> State:
        """Our weights under its names, in its shapes."""
        return rename(state, self.layout)

    def load(self, module: Any, state: State) -> None:
        """Our weights into all of its parameters; raises if one is missing or left over."""
        parameters = dict(module.named_parameters())
        arrays = self.renamed(module, state)
        assert arrays.keys() == parameters.keys(), arrays.keys() ^ parameters.keys()
        with torch.no_grad():
            for name, array in arrays.items():
                assert parameters[name].shape == array.shape, name
                parameters[name].copy_(tensor(array))

    def parameters(self, module: Any, names: list[str]) -> State:
        """Its weights under our names."""
        arrays = {n: p.detach().numpy() for n, p in module.named_parameters()}
        return restore(arrays, self.layout, names)

    def gradients(self, module: Any, names: list[str]) -> State:
        """Its gradients under our names."""
        arrays = {n: p.grad.numpy() for n, p in module.named_parameters()}
        return restore(arrays, self.layout, names)

"""For the adapters beside it: a text on torch tensors as the two functions of the protocol."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

Tensors = dict[str, torch.Tensor]


def tensors(x: Any, derive: bool = False) -> Any:
    """Arrays of NumPy, also inside dicts, as tensors; floating ones are leaves where asked for."""
    if isinstance(x, dict):
        return {name: tensors(value, derive) for name, value in x.items()}
    if isinstance(x, np.ndarray):
        return torch.tensor(x, requires_grad=derive and x.dtype.kind == "f")
    return x


def value_of(text: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    def value(*arguments: Any) -> np.ndarray:
        with torch.no_grad():
            return text(*map(tensors, arguments)).numpy()

    return value


def gradients_of(text: Callable[..., torch.Tensor]) -> Callable[..., dict[str, np.ndarray]]:
    """The gradients of ⟨cotangent, text⟩ by all floating arrays, by name."""
    names = tuple(inspect.signature(text).parameters)

    def gradients(*arguments: Any) -> dict[str, np.ndarray]:
        *inputs, cotangent = arguments
        given = dict(zip(names, (tensors(x, True) for x in inputs), strict=True))
        text(*given.values()).backward(torch.tensor(cotangent))
        leaves: Tensors = {}
        for name, x in given.items():
            leaves.update(x if isinstance(x, dict) else {name: x})
        found = {n: getattr(x, "grad", None) for n, x in leaves.items()}
        return {name: g.numpy() for name, g in found.items() if g is not None}

    return gradients


def call(module: torch.nn.Module, weights: Tensors, *inputs: Any) -> Any:
    """Run a module with these tensors in place of its parameters; all of them must be there."""
    own = {name for name, _ in module.named_parameters()}
    if own != weights.keys():
        raise ValueError(f"weights that do not fit: {sorted(own ^ weights.keys())[:6]}")
    for name, parameter in module.named_parameters():
        if parameter.shape != weights[name].shape:
            raise ValueError(
                f"{name} is {tuple(parameter.shape)}, the weights are {tuple(weights[name].shape)}"
            )
    return functional_call(module.eval().to(next(iter(weights.values())).dtype), weights, inputs)


def train_step_of(model: Callable[..., torch.Tensor]) -> Callable[..., dict[str, np.ndarray]]:
    """One step of torch.optim.SGD on the mean cross-entropy."""

    def step(config: Any, state: Any, image: Any, labels: Any, lr: float) -> dict[str, np.ndarray]:
        weights = tensors(state, True)
        logits = model(config, weights, tensors(image))
        torch.nn.functional.cross_entropy(logits, tensors(labels)).backward()
        torch.optim.SGD(weights.values(), lr=lr).step()
        return {name: x.detach().numpy() for name, x in weights.items()}

    return step

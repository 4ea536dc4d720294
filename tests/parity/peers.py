"""The other implementations: how each is built from our settings, run and read out.

A missing package skips the test that asks for it, with the reason.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .names import TIMM, TRANSFORMERS, TRANSFORMERS_FILES, Layout, State, rename, restore

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
    """Another implementation of Swin; `module` below is one of its models."""

    package: str
    layout: Layout

    def version(self) -> str:
        return f"{self.package} {need(self.package).__version__}"

    def build(self, settings: dict[str, Any]) -> Any:
        """A float32 model with the settings of our SwinTransformer, ready for evaluation."""
        raise NotImplementedError

    def logits(self, module: Any, images: Any) -> Any:
        raise NotImplementedError

    def features(self, module: Any, images: Any) -> list[np.ndarray]:
        """The map (B, H, W, C) of every stage before its merge, the last one normalised."""
        raise NotImplementedError

    def load(self, module: Any, state: State) -> None:
        """Our weights into all of its parameters; raises if one is missing or left over."""
        parameters = dict(module.named_parameters())
        arrays = rename(state, self.layout)
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


class Transformers(Peer):
    package = "transformers"

    @property
    def layout(self) -> Layout:  # type: ignore[override]
        return TRANSFORMERS if self._since_5() else TRANSFORMERS_FILES

    def _since_5(self) -> bool:
        return int(need("transformers").__version__.split(".")[0]) >= 5

    def config(self, settings: dict[str, Any]) -> Any:
        renamed = {"img_size": "image_size", "num_classes": "num_labels"}
        renamed["ape"] = "use_absolute_embeddings"
        own = {renamed.get(name, name): value for name, value in settings.items()}
        # The "eager" attention of transformers 5 takes its softmax in float32, whatever the model.
        attention = "sdpa" if self._since_5() else "eager"
        return need("transformers").SwinConfig(**own, attn_implementation=attention)

    def build(self, settings: dict[str, Any]) -> Any:
        module = need("transformers").SwinForImageClassification(self.config(settings)).eval()
        embeddings = module.swin.embeddings
        positions, patches = embeddings.position_embeddings, embeddings.patch_embeddings.num_patches
        if positions is not None and positions.shape[1] != patches:
            pytest.skip(f"{self.version()} makes one absolute position too many, and cannot run")
        return module

    def logits(self, module: Any, images: Any) -> Any:
        return module(images).logits

    def features(self, module: Any, images: Any) -> list[np.ndarray]:
        swin = module.swin
        x, grid = swin.embeddings(images)
        choice = {"output_hidden_states": True, "output_hidden_states_before_downsampling": True}
        found = swin.encoder(x, grid, **choice)
        maps = [images_last(x) for x in found.reshaped_hidden_states[1:]]  # [0] is the embedding
        last = swin.layernorm(found.last_hidden_state).detach().numpy()
        return [*maps[:-1], last.reshape(maps[-1].shape)]


class Timm(Peer):
    package = "timm"
    layout = TIMM

    def version(self) -> str:
        return f"timm {load_timm().__version__}"

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        swin = importlib.import_module("timm.models.swin_transformer")
        assert not settings.get("ape", False), "timm's Swin has no absolute position embedding"
        own = {name: value for name, value in settings.items() if name != "ape"}
        module = swin.SwinTransformer(**own).eval()
        for layer in module.modules():
            if hasattr(layer, "fused_attn"):
                layer.fused_attn = False
        return module

    def logits(self, module: Any, images: Any) -> Any:
        return module(images)

    def features(self, module: Any, images: Any) -> list[np.ndarray]:
        _, maps = module.forward_intermediates(images, norm=True)
        return [images_last(x) for x in maps]


PEERS: dict[str, Peer] = {"transformers": Transformers(), "timm": Timm()}


# ── timm wants torchvision, of which a Swin needs nothing ────────────────────────────────────────


@cache
def load_timm() -> Any:
    """timm, imported with a stand-in for torchvision where that is not installed."""
    if find_spec("torchvision") is None and find_spec("timm") is not None:
        with _torchvision_stand_in():
            return need("timm")
    return need("timm")


@contextmanager
def _torchvision_stand_in() -> Iterator[None]:
    """Empty modules that have every name; taken away again, or transformers would believe them."""
    parts = ("", ".transforms", ".transforms.functional", ".datasets", ".ops", ".ops.misc")
    names = [f"torchvision{part}" for part in (*parts, ".models", ".models.feature_extraction")]
    for name in names:
        sys.modules[name] = _EmptyModule(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


class _EmptyModule(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # what makes a module a package

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _EmptyClass(name, (), {})


class _EmptyClass(type):
    def __getattr__(cls, name: str) -> str:  # the members of an enumeration
        if name.startswith("__"):
            raise AttributeError(name)
        return name

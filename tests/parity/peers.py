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
from unittest.mock import patch

import numpy as np
import pytest

from .names import (
    TIMM,
    TNT_TIMM,
    TRANSFORMERS,
    TRANSFORMERS_FILES,
    V2_TRANSFORMERS,
    VIT_TIMM,
    VIT_TRANSFORMERS,
    VIT_TRANSFORMERS_FILES,
    Layout,
    State,
    distilled,
    rename,
    restore,
)

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


class TransformersViT(Transformers):
    @property
    def layout(self) -> Layout:  # type: ignore[override]
        return VIT_TRANSFORMERS if self._since_5() else VIT_TRANSFORMERS_FILES

    def config(self, settings: dict[str, Any], family: str = "ViTConfig") -> Any:
        assert settings.keys() <= {*VIT_NAMES, "mlp_ratio", "representation_size"}, settings
        own = {VIT_NAMES[name]: value for name, value in settings.items() if name in VIT_NAMES}
        own["intermediate_size"] = int(settings["embed_dim"] * settings.get("mlp_ratio", 4))
        own["pooler_output_size"] = settings.get("representation_size")
        build = getattr(need("transformers"), family)
        return build(**own, layer_norm_eps=1e-6, attn_implementation="sdpa")

    def build(self, settings: dict[str, Any]) -> Any:
        config = self.config(settings)
        if settings.get("representation_size") is None:
            return need("transformers").ViTForImageClassification(config).eval()
        module = torch.nn.Module()
        module.vit = need("transformers").ViTModel(config)  # with what it calls a pooler
        module.classifier = torch.nn.Linear(config.pooler_output_size, config.num_labels)
        return module.eval()

    def logits(self, module: Any, images: Any) -> Any:
        if hasattr(module, "config"):
            return module(images).logits
        return module.classifier(module.vit(images).pooler_output)  # put together by `build`


VIT_NAMES = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "qkv_bias": "qkv_bias",
    "num_classes": "num_labels",
}


class TransformersDeiT(TransformersViT):
    @property
    def layout(self) -> Layout:  # type: ignore[override]
        return distilled(super().layout)

    def build(self, settings: dict[str, Any]) -> Any:
        config = self.config(settings, "DeiTConfig")
        return need("transformers").DeiTForImageClassificationWithTeacher(config).eval()


class TimmViT(Timm):
    layout = VIT_TIMM

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        own = {name: value for name, value in settings.items() if name != "positions"}
        own["class_token"] = own.setdefault("global_pool", "token") == "token"
        positions = settings.get("positions", "learned")
        if positions == "relative":
            relative = importlib.import_module("timm.models.vision_transformer_relpos")
            kind = {"rel_pos_type": "bias", "init_values": None}
            module = relative.VisionTransformerRelPos(**own, **kind)
        else:
            vit = importlib.import_module("timm.models.vision_transformer")
            kind = {"pos_embed": {"learned": "learn", "none": "none"}[positions]}
            module = vit.VisionTransformer(**own, **kind, fc_norm=False)
        return module.eval()


class TimmDeiT(TimmViT):
    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        deit = importlib.import_module("timm.models.deit")
        return deit.VisionTransformerDistilled(**settings).eval()


class TransformersV2(Transformers):
    layout = V2_TRANSFORMERS  # type: ignore[assignment]

    def build(self, settings: dict[str, Any]) -> Any:
        renamed = {"img_size": "image_size", "num_classes": "num_labels"}
        own = {renamed.get(name, name): value for name, value in settings.items()}
        config = need("transformers").Swinv2Config(**own)
        return need("transformers").Swinv2ForImageClassification(config).eval()

    def load(self, module: Any, state: State) -> None:
        super().load(module, state)
        with patch.object(torch.Tensor, "float", torch.Tensor.double):  # its table is of float32
            for layer in module.modules():
                if hasattr(layer, "relative_coords_table"):
                    layer.relative_coords_table = layer.create_coords_table_and_index()[0]


class TimmV2(Timm):
    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        swin = importlib.import_module("timm.models.swin_transformer_v2")
        return swin.SwinTransformerV2(**settings).eval()

    def load(self, module: Any, state: State) -> None:
        super().load(module, state)
        swin = importlib.import_module("timm.models.swin_transformer_v2")
        grid = swin.ndgrid

        def in_float64(*axes: Any) -> Any:
            return grid(*(axis.double() for axis in axes))

        with patch.object(swin, "ndgrid", in_float64):  # its table is of float32
            for layer in module.modules():
                if hasattr(layer, "relative_coords_table"):
                    table, _ = layer._make_pair_wise_relative_positions(dtype=torch.float64)
                    layer.relative_coords_table = table


class TimmTNT(Timm):
    """Its positions of words are (1, c, rows, columns), ours (1, words, c)."""

    layout = TNT_TIMM

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        renamed = {"num_heads": "num_heads_outer", "inner_num_heads": "num_heads_inner"}
        renamed["inner_stride"] = "first_stride"
        own = {renamed.get(name, name): value for name, value in settings.items()}
        return importlib.import_module("timm.models.tnt").TNT(**own).eval()

    def load(self, module: Any, state: State) -> None:
        shape = module.pixel_pos.shape
        words = state["inner_pos"].transpose(0, 2, 1).reshape(shape)
        super().load(module, {**state, "inner_pos": words})

    def parameters(self, module: Any, names: list[str]) -> State:
        return self._words_last(super().parameters(module, names))

    def gradients(self, module: Any, names: list[str]) -> State:
        return self._words_last(super().gradients(module, names))

    def _words_last(self, found: State) -> State:
        positions = found["inner_pos"]
        words = positions.reshape(*positions.shape[:2], -1).transpose(0, 2, 1)
        return {**found, "inner_pos": words}


class TimmResNet(Timm):
    layout = Layout(())  # our names are torchvision's, and so are timm's

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        resnet = importlib.import_module("timm.models.resnet")
        kinds = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}
        depths, classes = settings["depths"], settings["num_classes"]
        return resnet.ResNet(kinds[settings["block"]], depths, num_classes=classes).eval()

    def load(self, module: Any, state: State) -> None:
        module.load_state_dict({name: tensor(array) for name, array in state.items()})


class TorchResNet(TimmResNet):
    """torch's layers put together as §4.2 of the paper says, which timm has not."""

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def build(self, settings: dict[str, Any]) -> Any:
        return TorchCifarResNet(**settings).eval()


class TorchCifarResNet(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, depths: Any, width: int, num_classes: int, **_: Any) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        inputs = width
        for i, depth in enumerate(depths):
            blocks = torch.nn.Sequential()
            for j in range(depth):
                blocks.append(TorchBlock(inputs, width * 2**i, 2 if i and not j else 1))
                inputs = width * 2**i
            self.add_module(f"layer{i + 1}", blocks)
        self.fc = torch.nn.Linear(inputs, num_classes)

    def forward(self, x: Any) -> Any:
        x = self.bn1(self.conv1(x)).relu()
        for name, blocks in self.named_children():
            x = blocks(x) if name.startswith("layer") else x
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class TorchBlock(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        x = torch.nn.functional.max_pool2d(x, 1, self.stride)  # a maximum of one element each
        zeros = x.new_zeros(x.shape[0], self.missing, *x.shape[2:])
        return (y + torch.cat([x, zeros], dim=1)).relu()


class TimmTwins(Timm):
    layout = Layout(())  # its names are ours

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        stages = range(len(settings["depths"]))
        own = {k: v for k, v in settings.items() if k not in ("embed_dim", "window_size")}
        own["embed_dims"] = [settings["embed_dim"] * 2**i for i in stages]
        ratio = own.pop("mlp_ratio", 4)
        own["mlp_ratios"] = [ratio for _ in stages]
        own["wss"] = [settings["window_size"] for _ in stages]
        return importlib.import_module("timm.models.twins").Twins(**own).eval()


PEERS: dict[str, Peer] = {
    "transformers": Transformers(),
    "timm": Timm(),
    "transformers ViT": TransformersViT(),
    "transformers DeiT": TransformersDeiT(),
    "timm ViT": TimmViT(),
    "timm DeiT": TimmDeiT(),
    "transformers V2": TransformersV2(),
    "timm V2": TimmV2(),
    "timm TNT": TimmTNT(),
    "timm Twins": TimmTwins(),
    "timm ResNet": TimmResNet(),
    "torch ResNet": TorchResNet(),
}


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

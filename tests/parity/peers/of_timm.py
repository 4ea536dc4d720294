"""The models of timm, built from our settings, run and read out."""

from __future__ import annotations

import importlib
from typing import Any
from unittest.mock import patch

import numpy as np

from ..names import TIMM, TNT_TIMM, VIT_TIMM, Layout, State
from .base import Peer, images_last, tensor, torch
from .loading_timm import load_timm


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


class TimmViT(Timm):
    layout, same_order = VIT_TIMM, True

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

    layout, same_order = TNT_TIMM, True

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        renamed = {"num_heads": "num_heads_outer", "inner_num_heads": "num_heads_inner"}
        renamed["inner_stride"] = "first_stride"
        own = {renamed.get(name, name): value for name, value in settings.items()}
        return importlib.import_module("timm.models.tnt").TNT(**own).eval()

    def renamed(self, module: Any, state: State) -> State:
        words = state["inner_pos"].transpose(0, 2, 1).reshape(module.pixel_pos.shape)
        return super().renamed(module, {**state, "inner_pos": words})

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


class TimmTwins(Timm):
    layout, same_order = Layout(()), True  # its names are ours

    def build(self, settings: dict[str, Any]) -> Any:
        load_timm()
        stages = range(len(settings["depths"]))
        own = {k: v for k, v in settings.items() if k not in ("embed_dim", "window_size")}
        own["embed_dims"] = [settings["embed_dim"] * 2**i for i in stages]
        ratio = own.pop("mlp_ratio", 4)
        own["mlp_ratios"] = [ratio for _ in stages]
        own["wss"] = [settings["window_size"] for _ in stages]
        return importlib.import_module("timm.models.twins").Twins(**own).eval()

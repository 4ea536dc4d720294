"""The models of transformers, built from our settings, run and read out."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from minswin.weights.rename import rename

from ..names import (
    TRANSFORMERS,
    TRANSFORMERS_FILES,
    V2_TRANSFORMERS,
    VIT_TRANSFORMERS,
    VIT_TRANSFORMERS_FILES,
    Layout,
    State,
    distilled,
)
from .base import Peer, images_last, need, tensor, torch


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


class TransformersCvT(Transformers):
    """Our names come from the table that loads its files, so that the table is compared too.

    It cannot build a stage i of fewer than i + 1 blocks: it takes the rate of the i-th.
    """

    def build(self, settings: dict[str, Any]) -> Any:
        own = dict(settings)
        ratio = own.pop("mlp_ratio", 4.0)
        sides, strides = own.pop("patch_sizes"), own.pop("strides")
        config = need("transformers").CvtConfig(
            patch_sizes=sides,
            patch_stride=strides,
            patch_padding=[
                (side - stride + 1) // 2 for side, stride in zip(sides, strides, strict=True)
            ],
            embed_dim=own.pop("embed_dims"),
            depth=own.pop("depths"),
            num_heads=own.pop("num_heads"),
            mlp_ratio=[ratio] * 3,
            num_labels=own.pop("num_classes"),
        )
        own.pop("img_size")  # it takes any
        assert not own, own
        return need("transformers").CvtForImageClassification(config).eval()

    def load(self, module: Any, state: State) -> None:
        renamed = rename(state, "minswin", "transformers")
        module.load_state_dict({name: tensor(array) for name, array in renamed.items()})

    def gradients(self, module: Any, names: list[str]) -> State:
        theirs = {n: p.detach().numpy() for n, p in module.state_dict().items()}
        theirs |= {n: p.grad.numpy() for n, p in module.named_parameters()}
        ours = rename(theirs, "transformers", "minswin")
        return {name: ours[name] for name in names}

"""Layers: objects that hold parameters and map Tensors to Tensors."""

from minswin.layers.attention import MSA
from minswin.layers.base import Layer, Parameter
from minswin.layers.basic import Dropout, DropPath, LayerNorm, Linear, Mlp
from minswin.layers.embeddings import Conv2d, Embedding, PatchEmbed
from minswin.layers.windows import PatchMerging, WindowAttention

__all__ = [
    "MSA",
    "Conv2d",
    "DropPath",
    "Dropout",
    "Embedding",
    "Layer",
    "LayerNorm",
    "Linear",
    "Mlp",
    "Parameter",
    "PatchEmbed",
    "PatchMerging",
    "WindowAttention",
]

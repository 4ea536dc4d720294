"""Layers: objects that hold parameters and map Tensors to Tensors."""

from minswin.layers.attention import MSA
from minswin.layers.base import Layer
from minswin.layers.basic import Dropout, DropPath, LayerNorm, Linear, Mlp
from minswin.layers.convolutions import BatchNorm2d, Depthwise, Filters
from minswin.layers.embeddings import (
    AxisPositions,
    Conv2d,
    ConvStem,
    Embedding,
    PatchEmbed,
    RelativePositionBias,
    SinusoidalPositions,
)
from minswin.layers.parameters import Buffer, Init, Parameter
from minswin.layers.recompute import recompute
from minswin.layers.windows import PatchMerging, WindowAttention
from minswin.layers.windows_v2 import PatchMergingV2, WindowAttentionV2
from minswin.layers.words import WordEmbed

__all__ = [
    "MSA",
    "AxisPositions",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "ConvStem",
    "Depthwise",
    "DropPath",
    "Dropout",
    "Embedding",
    "Filters",
    "Init",
    "Layer",
    "LayerNorm",
    "Linear",
    "Mlp",
    "Parameter",
    "PatchEmbed",
    "PatchMerging",
    "PatchMergingV2",
    "RelativePositionBias",
    "SinusoidalPositions",
    "WindowAttention",
    "WindowAttentionV2",
    "WordEmbed",
    "recompute",
]

"""The other implementations: how each is built from our settings, run and read out."""

from __future__ import annotations

from .base import Peer, need, tensor, torch
from .loading_timm import load_timm
from .of_timm import Timm, TimmDeiT, TimmResNet, TimmTNT, TimmTwins, TimmV2, TimmViT
from .of_torch import TorchResNet
from .of_transformers import (
    Transformers,
    TransformersCvT,
    TransformersDeiT,
    TransformersV2,
    TransformersViT,
)

__all__ = [
    "PEERS",
    "Peer",
    "TimmDeiT",
    "TimmResNet",
    "TimmTwins",
    "TransformersCvT",
    "load_timm",
    "need",
    "tensor",
    "torch",
]

PEERS: dict[str, Peer] = {
    "transformers": Transformers(),
    "timm": Timm(),
    "transformers ViT": TransformersViT(),
    "transformers DeiT": TransformersDeiT(),
    "timm ViT": TimmViT(),
    "timm DeiT": TimmDeiT(),
    "transformers V2": TransformersV2(),
    "transformers CvT": TransformersCvT(),
    "timm V2": TimmV2(),
    "timm TNT": TimmTNT(),
    "timm Twins": TimmTwins(),
    "timm ResNet": TimmResNet(),
    "torch ResNet": TorchResNet(),
}

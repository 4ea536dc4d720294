"""The models, one file each, and the list of their names."""

from typing import TYPE_CHECKING

from minswin import lazy
from minswin.models.deit import DistilledVisionTransformer
from minswin.models.registry import create_model, list_models
from minswin.models.resnet import ResNet
from minswin.models.swin import SwinTransformer
from minswin.models.swin_v2 import SwinTransformerV2
from minswin.models.tnt import TNT
from minswin.models.transformer import Transformer
from minswin.models.twins import Twins
from minswin.models.vit import VisionTransformer

__all__ = [
    "TNT",
    "DistilledVisionTransformer",
    "ResNet",
    "SwinTransformer",
    "SwinTransformerV2",
    "Transformer",
    "Twins",
    "VisionTransformer",
    "create_model",
    "list_models",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)

"""The models, one file each, and the list of their names."""

from minswin.models.registry import create_model, list_models
from minswin.models.swin import SwinTransformer

__all__ = ["SwinTransformer", "create_model", "list_models"]

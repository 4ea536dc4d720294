"""The models, one file each; `registry` lists them, and builds them by name."""

from typing import TYPE_CHECKING

from minswin import lazy
from minswin.models.registry import *  # noqa: F403  the classes, create_model, list_models
from minswin.models.registry import __all__ as __all__

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)

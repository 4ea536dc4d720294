"""minswin: Swin Transformer from scratch in NumPy, with hand-written autograd and fast kernels."""

# ruff: noqa: F401 (the imports under TYPE_CHECKING are for others)

from typing import TYPE_CHECKING, Any

from minswin import kernels, lazy, models, ops
from minswin.autograd import Tensor, apply, no_grad, vjp
from minswin.models import list_models
from minswin.models.base import Model
from minswin.parallel import data_parallel
from minswin.version import VERSION as __version__

__all__ = [
    "Model",
    "Tensor",
    "__version__",
    "apply",
    "create_model",
    "data_parallel",
    "kernels",
    "list_models",
    "no_grad",
    "ops",
    "vjp",
]

if TYPE_CHECKING:  # what `lazy` imports when it is first used
    from minswin import (
        arguments,
        around,
        arrays,
        autograd,
        bar,
        bench,
        buckets,
        check,
        compiling,
        composites,
        crosscheck,
        data,
        dense,
        devices,
        distributed,
        explain,
        layers,
        lifting,
        look,
        nccl,
        opening,
        operators,
        parallel,
        reference,
        replacing,
        testing,
        training,
        version,
        waiting,
        watch,
        weights,
    )
else:
    __getattr__, __dir__ = lazy.submodules(__name__)


def create_model(name: str, *, weights: Any = None, **settings: Any) -> Model:
    """Build a named model with fresh weights, or with those of a file of any known implementation.

    weights: a file, arrays or tensors by name, or a model: see weights.load, also for key=, head=
    and resize=
    settings: override those of the name, with rng= and dtype=: see models.create_model
    """
    if weights is None:
        of_files = [key for key in ("key", "head", "resize", "tell") if key in settings]
        if of_files:
            raise ValueError(f"create_model: {of_files[0]}= chooses from a file; give weights= too")
        return models.create_model(name, **settings)
    from minswin.weights.load import load

    return load(name, weights, **settings)

"""minswin: Swin Transformer from scratch in NumPy, with hand-written autograd and fast kernels."""

from minswin import kernels, ops
from minswin.autograd import Tensor, apply, no_grad, vjp
from minswin.models import create_model, list_models
from minswin.parallel import data_parallel

__version__ = "0.1.0"

__all__ = [
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

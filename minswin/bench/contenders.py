"""Who takes part in a race: this code, and PyTorch running transformers' model of the same shape.

A contender is built in a process of its own and gives two functions without arguments: one step of
training (forward, cross-entropy, backward, SGD with momentum) and one of inference.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from minswin.bench.clock import Step


class Setup(NamedTuple):
    """One configuration of the race."""

    model: str  # a name of list_models()
    batch: int
    img_size: int
    classes: int


class Contender(NamedTuple):
    train: Step
    infer: Step
    parameters: int


SETUPS = {
    "cifar": Setup("swin_cifar", 128, 32, 10),
    "tiny": Setup("swin_tiny", 8, 224, 1000),
    "vit": Setup("vit_small", 8, 224, 1000),
}
MEANINGS = {
    "minswin": "this code, its kernels",
    "reference": "this code, its definitions only",
    "eager": "PyTorch, attention spelled out",
    "fused": "PyTorch, scaled_dot_product_attention",
    "compiled": "PyTorch, torch.compile of eager",
}
OURS = {"minswin": "numba", "reference": "reference"}  # the backend of each
MISSING = 'PyTorch or transformers is missing; pip install "minswin[parity]"'

# Shapes of Vision Transformers in the words of transformers.      Dosovitskiy et al. 2021
VITS: dict[str, dict[str, Any]] = {
    "vit_small": {
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "patch_size": 16,
    }
}


def load(contender: str) -> None:
    """Import all that a contender needs, so that what this costs can be told from its model."""
    if contender in OURS:
        from minswin import kernels

        with kernels.using(OURS[contender]):
            return
    if contender == "compiled":
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes of its own
    try:
        import torch  # noqa: F401
        from transformers import SwinForImageClassification, ViTForImageClassification  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})") from error


def build(contender: str, setup: Setup, threads: int) -> Contender:
    """A contender of the shape of `setup`, working with so many threads."""
    check_model(setup.model)
    if contender in OURS:
        return _ours(setup, threads, OURS[contender])
    return _torch(setup, threads, contender)


def check_model(name: str) -> None:
    from minswin.models import list_models

    if name not in list_models():
        raise ValueError(f"bench: this version of minswin has no model {name!r}")


def data(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Noise and labels: images (B, 3, H, W), labels (B,)."""
    rng = np.random.default_rng(0)
    shape = setup.batch, 3, setup.img_size, setup.img_size
    images = rng.standard_normal(shape, dtype=np.float32)
    return images, rng.integers(0, setup.classes, setup.batch)


def our_model(setup: Setup, rng: Any) -> Any:
    """Ours, without stochastic depth."""
    from minswin import create_model

    settings: dict[str, Any] = {"img_size": setup.img_size, "num_classes": setup.classes}
    return create_model(setup.model, rng=rng, drop_path_rate=0.0, **settings)


def _ours(setup: Setup, threads: int, backend: str) -> Contender:
    from minswin import data_parallel, kernels, no_grad, ops
    from minswin.training.optimizers import SGD

    images, labels = data(setup)
    model = our_model(setup, np.random.default_rng(0))
    parallel = data_parallel(model, threads)
    optimizer = SGD(model.named_parameters(), 0.01, momentum=0.9)

    def train() -> float:
        with kernels.using(backend):
            model.train()
            model.zero_grad()
            loss = ops.cross_entropy(parallel(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

    def infer() -> np.ndarray:
        with kernels.using(backend), no_grad():
            model.eval()
            return parallel(images).numpy()

    return Contender(train, infer, model.parameter_count())


def _torch(setup: Setup, threads: int, contender: str) -> Contender:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = _of_transformers(setup, "sdpa" if contender == "fused" else "eager")
    run: Any = torch.compile(model) if contender == "compiled" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = (torch.from_numpy(x) for x in data(setup))

    def train() -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(run(images).logits, labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def infer() -> Any:
        model.eval()
        with torch.no_grad():
            return run(images).logits

    return Contender(train, infer, sum(p.numel() for p in model.parameters()))


def _of_transformers(setup: Setup, attention: str) -> Any:
    """transformers' model with random weights, shaped like ours."""
    from transformers import (
        SwinConfig,
        SwinForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    settings: dict[str, Any] = {
        "image_size": setup.img_size,
        "num_labels": setup.classes,
        "attn_implementation": attention,
    }
    model: Any
    if setup.model in VITS:
        model = ViTForImageClassification(ViTConfig(**settings, **VITS[setup.model]))
    else:
        config = SwinConfig(**settings, drop_path_rate=0.0, **_swin_shape(setup))
        model = SwinForImageClassification(config)
    if model.config._attn_implementation != attention:
        raise RuntimeError(f"transformers took {model.config._attn_implementation} attention")
    return model


def _swin_shape(setup: Setup) -> dict[str, Any]:
    """The shape of our Swin in the words of transformers, read off the model, which has no data."""
    from minswin.look.tables import BLANK

    model = our_model(setup, BLANK)
    blocks = [stage.blocks[0] for stage in model.layers]
    hidden, channels = blocks[0].mlp.fc1.weight.shape
    return {
        "patch_size": model.patch_size[0],
        "embed_dim": channels,
        "depths": [len(stage.blocks) for stage in model.layers],
        "num_heads": [block.attn.heads for block in blocks],
        "window_size": blocks[0].attn.window[0],
        "mlp_ratio": hidden / channels,
    }

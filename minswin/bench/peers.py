"""PyTorch in the race: timm's and transformers' models of the same shape, with random weights.

A peer's name is its library and, after a hyphen, how its attention is computed: nothing where it is
spelled out, "fused" for scaled_dot_product_attention, "compiled" for torch.compile of the former.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from minswin.bench.clock import Step
from minswin.bench.setups import Setup, data, our_model

MISSING = 'PyTorch, timm or transformers is missing; pip install "minswin[parity]"'

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


def load(peer: str) -> None:
    """Import all that a peer needs, so that what this costs can be told from its model."""
    library, _, how = peer.partition("-")
    if how == "compiled":
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes of its own
    try:
        import_module("torch")
        models = import_module(library)
        if library == "transformers":  # its models are imported when they are asked for
            _ = models.SwinForImageClassification, models.ViTForImageClassification
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})") from error


def build(peer: str, setup: Setup, threads: int) -> tuple[Step, Step, int]:
    """A training step, a step of inference, and the number of parameters."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = model_of(peer, setup)
    run: Any = torch.compile(model) if peer.endswith("-compiled") else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = (torch.from_numpy(x) for x in data(setup))

    def logits() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bfloat16"):
            answer = run(images)
        return getattr(answer, "logits", answer).float()  # transformers gives a record

    def train() -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(logits(), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def infer() -> Any:
        model.eval()
        with torch.no_grad():
            return logits()

    return train, infer, sum(p.numel() for p in model.parameters())


def model_of(peer: str, setup: Setup) -> Any:
    """The peer's module with random weights, shaped like ours."""
    library, _, how = peer.partition("-")
    return (_of_timm if library == "timm" else of_transformers)(setup, how == "fused")


def _of_timm(setup: Setup, fused: bool) -> Any:
    import timm
    from timm.layers import set_fused_attn
    from timm.models.swin_transformer import SwinTransformer

    # timm takes its fused attention for windows only where it is told to try what is new.
    set_fused_attn(fused, experimental=fused)
    if setup.model in VITS:
        size = {"img_size": setup.img_size, "num_classes": setup.classes}
        model = timm.create_model(f"{setup.model}_patch16_224", pretrained=False, **size)
    else:
        shape = _swin_shape(setup)
        model = SwinTransformer(
            img_size=shape.pop("image_size"),
            num_classes=shape.pop("num_labels"),
            drop_path_rate=0.0,
            **shape,
        )
    flags = {m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")}
    if flags != {fused}:
        raise RuntimeError(f"timm: fused attention is {flags}, asked for {fused}")
    return model


def of_transformers(setup: Setup, fused: bool) -> Any:
    from transformers import (
        SwinConfig,
        SwinForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    attention = "sdpa" if fused else "eager"
    settings: dict[str, Any] = {"attn_implementation": attention}
    model: Any
    if setup.model in VITS:
        size = {"image_size": setup.img_size, "num_labels": setup.classes}
        model = ViTForImageClassification(ViTConfig(**settings, **size, **VITS[setup.model]))
    else:
        config = SwinConfig(**settings, drop_path_rate=0.0, **_swin_shape(setup))
        model = SwinForImageClassification(config)
    if model.config._attn_implementation != attention:
        raise RuntimeError(f"transformers took {model.config._attn_implementation} attention")
    return model


def _swin_shape(setup: Setup) -> dict[str, Any]:
    """The shape of our Swin in the words of transformers, read off the model, which has no data."""
    from minswin.models.blank import BLANK

    model = our_model(setup, BLANK)
    blocks = [stage.blocks[0] for stage in model.layers]
    hidden, channels = blocks[0].mlp.fc1.weight.shape
    return {
        "image_size": setup.img_size,
        "num_labels": setup.classes,
        "patch_size": model.patch_size[0],
        "embed_dim": channels,
        "depths": [len(stage.blocks) for stage in model.layers],
        "num_heads": [block.attn.heads for block in blocks],
        "window_size": blocks[0].attn.window[0],
        "mlp_ratio": hidden / channels,
    }

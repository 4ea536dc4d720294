"""Lists of what users rely on: arguments, settings, summaries and numbers of all families.

    python tests/promises.py        # writes promises/*.txt

A change of a list is a change that users see: it belongs into CHANGELOG.md. That the numbers are
right is shown elsewhere (tests/parity); the list tells at once when they move.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from test_public_names import MODULES, load

from minswin import create_model, kernels
from minswin.models import registry

FOLDER = Path(__file__).parent / "promises"

PYRAMID = {"img_size": (40, 24), "depths": (1, 2, 1), "num_heads": (1, 2, 3), "num_classes": 5}
TOKENS = {"img_size": (8, 12), "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 5}
MODELS: dict[str, dict[str, Any]] = {  # NAME or NAME-WHAT
    "swin_cifar": {**PYRAMID, "embed_dim": 6, "window_size": 3, "ape": True},
    "swin_cifar-convolutions": {
        **PYRAMID, "embed_dim": 6, "window_size": 3, "stem": "convolutions", "shift": False,
    },
    "swinv2_cifar": {**PYRAMID, "embed_dim": 6, "window_size": 3},
    "vit_cifar": TOKENS,
    "deit_cifar_distilled": TOKENS,
    "tnt_cifar": {**TOKENS, "inner_dim": 8},
    "twins_svt_small": {
        **PYRAMID, "embed_dim": 6, "patch_size": 2, "sr_ratios": (3, 2, 1), "window_size": 3,
    },
    "cvt_13": {
        "img_size": (40, 24), "embed_dims": (4, 6, 9), "depths": (1, 2, 1), "num_heads": (1, 2, 3),
        "num_classes": 5,
    },
    "resnet20": {"img_size": (8, 12), "depths": (1, 2), "width": 4, "num_classes": 5},
    "resnet50": {"img_size": (40, 24), "depths": (1, 1, 2, 1), "width": 4, "num_classes": 5},
}  # fmt: skip


def signatures() -> Iterator[str]:
    """name(arguments) of every public function and class, a line each."""
    for name in MODULES:
        module = load(name)
        for public in module.__all__:
            value = getattr(module, public)
            if not is_ours(value):
                continue
            yield f"{module.__name__}.{public}{_arguments(value)}"
            if isinstance(value, type):
                for attribute, method in vars(value).items():
                    if inspect.isfunction(method) and attribute[0] != "_":
                        yield f"    {attribute}{_arguments(method)}"


def _arguments(value: Any) -> str:
    of_class = isinstance(value, type)
    arguments = list(inspect.signature(value.__init__ if of_class else value).parameters.values())
    return f"({', '.join(_argument(p) for p in arguments[of_class:])})"  # without self


def _argument(p: inspect.Parameter) -> str:
    stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    default = "" if p.default is p.empty else f"={_stable(p.default)}"
    return f"{stars}{p.name}{default}"


def is_ours(value: object) -> bool:
    """Whether it is a function or a class of minswin: names for types, as Array, are not."""
    return callable(value) and str(getattr(value, "__module__", "")).startswith("minswin")


def _stable(value: object) -> str:
    """repr without the address of an object, which differs from run to run."""
    if isinstance(value, type):
        return value.__name__
    plain = (int, float, str, bool, tuple, type(None), list, dict)
    return repr(value) if isinstance(value, plain) else type(value).__name__


def summaries() -> Iterator[str]:
    """The rows of small models of all families, for their own image and for a larger one."""
    for name, settings in MODELS.items():
        model = create_model(name.split("-")[0], rng=0, **settings)
        for size in (None, (80, 48)) if "swin" in name or "svt" in name else (None,):
            yield f"{name} {size or settings['img_size']}"
            rows = model.summary() if size is None else model.summary(size)
            for row in rows:
                yield f"    {row.name}  {row.shape}  {row.parameters}  {row.macs}  {row.is_stage}"


def settings() -> Iterator[str]:
    """What every named model is made of."""
    for name, chosen in registry.MODELS.items():
        yield f"{name} {dict(sorted(chosen.items()))}"


def numbers() -> Iterator[str]:
    """Logits, feature maps and gradient of the small models, by their definitions, in float64."""
    for name, settings in MODELS.items():
        rng = np.random.default_rng(0)
        model = create_model(name.split("-")[0], rng=rng, dtype=np.float64, **settings).eval()
        for p in model.parameters():  # biases begin with zero, gains with one
            p.data += 0.3 * rng.standard_normal(p.shape)
        x = rng.standard_normal((2, 3, *settings["img_size"]))
        with kernels.using("reference"):
            logits = model(x)
            (logits * rng.standard_normal(logits.shape)).sum().backward()
            maps = model.feature_maps(x)
        yield f"{name} logits {_digits(logits.data.reshape(-1))}"
        yield f"{name} maps {_digits(np.array([float((y.data**2).mean()) for y in maps]))}"
        slopes = [float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None]
        yield f"{name} gradient {_digits(np.array([len(slopes), sum(slopes)]))}"


def _digits(values: np.ndarray) -> str:
    return " ".join(f"{x:.11e}" for x in values)


LISTS = {
    "signatures": signatures,
    "summaries": summaries,
    "settings": settings,
    "numbers": numbers,
}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, lines in LISTS.items():
        (FOLDER / f"{name}.txt").write_text("\n".join(lines()) + "\n", "utf-8")

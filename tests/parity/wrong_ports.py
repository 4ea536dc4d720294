"""Wrong ports: timm's or transformers' text with a few words changed, or a loop in PyTorch."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck import recipe
from minswin.crosscheck.fingerprints import SWIN, TINY, VIT
from minswin.crosscheck.torch import keep
from minswin.models import create_model
from minswin.weights.rename import rename
from tests.parity import published
from tests.parity.peers import TimmDeiT, TimmResNet, TimmTwins, TransformersCvT, load_timm

IMAGES = 3
SQUARE = {**SWIN, "img_size": (32, 48), "window_size": 4}  # transformers has no other windows
MODELS = {
    **TINY,
    "V1 covered": ("swin_tiny", {**SWIN, "window_size": (6, 8)}),  # the last map is one window
    "V2 padded": ("swinv2_cifar", TINY["V1 padded"][1]),
    "V1 of transformers": ("swin_tiny", SQUARE),
    "V2 of transformers": ("swinv2_cifar", SQUARE),
    "V1 of microsoft": ("swin_tiny", SQUARE),
    "DeiT": ("deit_tiny_distilled", VIT),
    "Twins": ("twins_svt_small", {
        "img_size": (24, 36), "patch_size": 2, "embed_dim": 20, "depths": (2, 2),
        "num_heads": (2, 4), "sr_ratios": (4, 2), "window_size": 3, "num_classes": 7,
    }),
    "CvT": ("cvt_cifar", {
        "img_size": (32, 48), "patch_sizes": (7, 3, 3), "strides": (4, 2, 2),
        "embed_dims": (6, 10, 12), "depths": (1, 2, 3), "num_heads": (1, 2, 3), "num_classes": 7,
    }),
    "ResNet": ("resnet18", {"img_size": (40, 56), "depths": (1, 1, 1, 1), "num_classes": 7}),
}  # fmt: skip


class Change(NamedTuple):
    where: str  # module:function
    text: str
    becomes: str


class Mistake(NamedTuple):
    family: str
    name: str
    met: str  # a public thread, or "porting"
    changes: tuple[Change, ...]
    about: str  # a pattern of a right answer; of a pair, one for each
    optimizer: str = ""  # of the training mistakes: "adamw" or "sgd"
    later: str = ""  # the operator that was added after the search had missed it
    known: bool = True  # the search names it
    settings: tuple[
        tuple[str, Any], ...
    ] = ()  # of the training steps: clip, warmup, smoothing, ema
    backward: bool = False  # gradients are given too


@contextmanager
def changed(changes: tuple[Change, ...]) -> Iterator[None]:
    """Inside this block a library has these changes: the code of a function is put in its place."""
    with ExitStack() as stack:
        by_function: dict[str, list[Change]] = {}
        for change in changes:
            by_function.setdefault(change.where, []).append(change)
        for where, group in by_function.items():
            stack.enter_context(_one_changed(where, group))
        yield


@contextmanager
def _one_changed(where: str, changes: list[Change]) -> Iterator[None]:
    module_name, _, path = where.partition(":")
    module = published.text_of(module_name)
    function: Any = module
    for part in path.split("."):
        function = getattr(function, part)
    function = inspect.unwrap(function)
    text = textwrap.dedent(inspect.getsource(function))
    for change in changes:
        if change.text not in text:
            raise LookupError(f"wrong_ports: {where} has no {change.text!r}")
        text = text.replace(change.text, change.becomes)
    text = re.sub(r"^(@.*\n)+", "", text)
    names = dict(vars(module))
    exec(compile(text, module_name, "exec"), names)
    right, wrong = function.__code__, names[function.__name__].__code__
    function.__code__ = wrong
    try:
        yield
    finally:
        function.__code__ = right


def ours(family: str, dtype: Any = np.float32) -> Any:
    name, settings = MODELS[family]
    model = create_model(name, **settings, rng=np.random.default_rng(0), dtype=dtype)
    model.load_state_dict(recipe.weights(model.state_dict()))
    return model.eval()


def theirs(family: str) -> Any:
    """timm's model, or that of whom its name says, with our weights; CvT is transformers'."""
    load_timm()

    _, own = MODELS[family]
    if " of " in family:
        version, _, whose = family.partition(" of ")
        model = ours(family)
        return published.build(whose, int(version[1]), own, model.state_dict(), model)
    if family in OTHERS:
        module = OTHERS[family]().build({**own, **BUILT.get(family, {})})
        whose = "transformers" if family == "CvT" else "timm"
        state = rename(ours(family).state_dict(), "minswin", whose, model=ours(family))
        return _loaded(module, state)
    more = {key: value for key, value in own.items() if key not in ("inner_stride",)}
    if family.startswith("V1"):
        from timm.models.swin_transformer import SwinTransformer as kind
    elif family.startswith("V2"):
        from timm.models.swin_transformer_v2 import SwinTransformerV2 as kind
    elif family == "ViT":
        from timm.models.vision_transformer import VisionTransformer as kind
    else:
        from timm.models.tnt import TNT as kind

        more["num_heads_inner"] = more.pop("inner_num_heads")
        more["num_heads_outer"] = more.pop("num_heads")
        more["first_stride"] = own["inner_stride"]
    module = kind(**more).eval()
    return _loaded(module, rename(ours(family).state_dict(), "minswin", "timm", model=ours(family)))


OTHERS = {"DeiT": TimmDeiT, "Twins": TimmTwins, "CvT": TransformersCvT, "ResNet": TimmResNet}
BUILT = {"ResNet": {"block": "basic"}}


def _loaded(module: Any, state: Mapping[str, Any]) -> Any:
    import torch

    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    missing = module.load_state_dict(
        {n: torch.tensor(np.asarray(x)) for n, x in state.items()}, strict=False
    )
    assert not [n for n in missing.missing_keys if "index" not in n and "mask" not in n], missing
    return module


def seen(mistake: Mistake | None, family: str = "") -> dict[str, np.ndarray]:
    """What every submodule of the wrong port gives, and its logits; gradients where backward is."""
    import torch

    family = mistake.family if mistake else family
    backward = mistake is not None and mistake.backward
    _, own = MODELS[family]
    image = recipe.images(IMAGES, 3, own["img_size"]).astype(np.float32)
    load_timm()
    with changed(mistake.changes if mistake else ()):
        module = theirs(family)
        with keep(module) as found, torch.set_grad_enabled(backward):
            y = module(torch.tensor(image))
            y = getattr(y, "logits", y)
            if backward:
                labels = torch.tensor(recipe.labels(IMAGES, own["num_classes"]))
                torch.nn.functional.cross_entropy(y, labels).backward()
    return found.arrays


def trained(mistake: Mistake | None, optimizer: str, **settings: Any) -> dict[str, np.ndarray]:
    """Losses, and weights after three steps, of timm's Swin with a wrong loop or optimizer."""
    import torch

    from minswin.training.optimizers import AdamW

    module, model = theirs("V1"), ours("V1")
    names = {n: p for n, p in model.named_parameters()}
    own = rename({n: _ticket(i, p.shape) for i, (n, p) in enumerate(names.items())},
                 "minswin", "timm", model=model)  # fmt: skip
    by_number = {int(x.flat[0]): t for t, x in own.items() if t in dict(module.named_parameters())}
    back = {t: list(names)[i] for i, t in by_number.items()}
    decay = AdamW(model.named_parameters(), 0.01).decay
    _, told = MODELS["V1"]
    image = torch.tensor(recipe.images(IMAGES, 3, told["img_size"]).astype(np.float32))
    labels = torch.tensor(recipe.labels(IMAGES, told["num_classes"]))
    wrong = mistake.name if mistake else ""
    losses, of_mean = [], []
    parameters = {back[t]: p for t, p in module.named_parameters()}
    state = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in parameters.items()}
    mean = {n: p.detach().clone() for n, p in parameters.items()}

    def loss() -> Any:
        return _loss(module(image), labels, settings.get("smoothing", 0.0), wrong)

    for t in range(1, STEPS + 1):
        if "not thrown away" not in wrong:
            module.zero_grad()
        value = loss()
        losses.append(value.item())
        value.backward()
        with torch.no_grad():
            if "before the step" in wrong:
                _average(mean, parameters, settings["ema"], t, wrong)
            _clip(list(parameters.values()), settings.get("clip"), wrong)
            lr = _rate(t, settings.get("warmup"), wrong)
            for i, (n, p) in enumerate(parameters.items()):
                if optimizer == "sgd":
                    for _ in range(2 if "along twice" in wrong else 1):
                        _sgd(p, state[n][0], lr, wrong)
                else:
                    tables = "tables of positions decay" in wrong and p.ndim > 1
                    own_decay = max(decay.values()) if tables else decay[n]
                    own_decay = 0 if wrong == "nothing decays" else own_decay
                    if "gains and biases decay" in wrong:
                        own_decay = 0 if decay[n] else max(decay.values())
                    anew = "for every parameter anew" in wrong
                    counted = (t - 1) * len(parameters) + i + 1 if anew else t
                    _adamw(p, *state[n], lr, own_decay, counted, wrong)
            if "ema" in settings:
                if "before the step" not in wrong:
                    _average(mean, parameters, settings["ema"], t, wrong)
                kept = {n: p.clone() for n, p in parameters.items()}
                for n, p in parameters.items():
                    p.copy_(mean[n])
                of_mean.append(loss().item())
                for n, p in parameters.items():
                    p.copy_(kept[n])
    with torch.no_grad():
        losses.append(loss().item())
    after = {f"after/{n}": p.detach().numpy() for n, p in parameters.items()}
    return {**after, "losses": np.array(losses + of_mean)}


STEPS, LR = 3, 0.01
SCALE = 1024  # of a loss in half precision: clipping sees gradients as much longer


def _loss(logits: Any, labels: Any, smoothing: float, wrong: str) -> Any:
    import torch

    if "shared by the wrong classes" in wrong:
        share = smoothing / (logits.shape[1] - 1)
        target = torch.full_like(logits, share).scatter_(1, labels[:, None], 1 - smoothing)
        return -(target * logits.log_softmax(1)).sum(1).mean()
    if "right class twice" in wrong:
        share, y = smoothing / logits.shape[1], logits.log_softmax(1)
        right = y.gather(1, labels[:, None])[:, 0]
        return -((1 - smoothing - share) * right + share * y.sum(1)).mean()
    if "gets 1/K" in wrong:
        y = logits.log_softmax(1)
        right = y.gather(1, labels[:, None])[:, 0]
        return -((1 - smoothing) * right + y.mean(1)).mean()
    if "share 1 − ε" in wrong:
        y = logits.log_softmax(1)
        right = y.gather(1, labels[:, None])[:, 0]
        return -(1 - smoothing) * (right + y.mean(1)).mean()
    return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def _clip(parameters: list[Any], longest: float | None, wrong: str) -> None:
    import torch

    if longest is None:
        return
    if "while they are scaled" in wrong:
        torch.nn.utils.clip_grad_norm_(parameters, longest / SCALE)
    elif "stretched" in wrong:
        length = torch.stack([p.grad.norm() for p in parameters]).norm()
        for p in parameters:
            p.grad *= longest / length
    elif "squared squares" in wrong:
        length = sum(p.grad.square().sum() ** 2 for p in parameters) ** 0.5
        for p in parameters:
            p.grad *= min(longest / length, 1.0)
    elif "squared length" in wrong:
        squares = sum(p.grad.square().sum() for p in parameters)
        for p in parameters:
            p.grad *= min(longest / squares, 1.0)
    elif "element by element" in wrong:
        torch.nn.utils.clip_grad_value_(parameters, longest)
    elif "each gradient by itself" in wrong:
        for p in parameters:
            torch.nn.utils.clip_grad_norm_([p], longest)
    else:
        torch.nn.utils.clip_grad_norm_(parameters, longest)


def _rate(t: int, warmup: int | None, wrong: str) -> float:
    """The rate of step t, counted from 1."""
    if warmup is None:
        return LR
    step = t if "counted from 1" in wrong else t - 1
    start, final = LR / 1000, LR / 100
    if step < warmup:
        return start + (LR - start) * step / warmup
    if "where the warm-up ended" in wrong:
        return LR
    done = (step - warmup) / (STEPS - warmup)
    if "begins at the first step" in wrong:
        done = step / STEPS
    if "a straight line" in wrong:
        return LR + (final - LR) * done
    if "cut off at the final rate" in wrong:
        return max(LR * (1 + np.cos(np.pi * done)) / 2, final)
    return final + (LR - final) * (1 + np.cos(np.pi * done)) / 2


def _average(mean: Any, parameters: Any, decay: float, t: int, wrong: str) -> None:
    d = decay if "from the first step on" in wrong else min(decay, (1 + t) / (10 + t))
    if "replaced by each step's" in wrong:  # what is kept is one less the last d
        last = decay
        for i in range(1, t + 1):
            d = min(last, (1 + i) / (10 + i))
            last = 1 - d
    d = 1 if "stays where it began" in wrong else d
    share = d - 1 if "pushed away" in wrong else d if "keeps 1 − d" in wrong else 1 - d
    for n, p in parameters.items():
        mean[n] += share * (p - mean[n])


def _sgd(p: Any, momentum: Any, lr: float, wrong: str) -> None:
    if "keeps the rates" in wrong:
        momentum.mul_(0.9).add_(lr * p.grad)
        p -= momentum
        return
    momentum.mul_(0.9).add_(0.1 * p.grad if "is a mean" in wrong else p.grad)
    p -= lr * (p.grad + 0.9 * momentum if "Nesterov" in wrong else momentum)


def _adamw(p: Any, m: Any, v: Any, lr: float, rate: float, t: int, wrong: str) -> None:
    g = p.grad.clone()
    beta1, beta2, eps = 0.9, 0.99 if "β₂" in wrong else 0.999, 1e-8
    if "part of the gradient" in wrong:
        g = g + rate * p
    elif "moved already" in wrong:
        pass
    elif "the same from every weight" in wrong:
        p -= lr * rate
    elif "corrected like the start" in wrong:
        p *= 1 - lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t) * rate
    else:
        p *= 1 - (rate if "without the learning rate" in wrong else lr * rate)
    m.mul_(beta1).add_((1 - beta1) * g)
    v.mul_(beta2).add_((1 - beta2) * g * g)
    v_hat, m_hat = v / (1 - beta2**t), m / (1 - beta1**t)
    if "multiplied by their correction" in wrong:
        v_hat, m_hat = v * (1 - beta2**t), m * (1 - beta1**t)
    if "in place" in wrong:
        m.copy_(m_hat)
    root = (v_hat + eps).sqrt() if "under the root" in wrong else v_hat.sqrt() + eps
    p -= lr * m_hat / root
    if "moved already" in wrong:
        p *= 1 - lr * rate


def _ticket(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """An array that holds one number everywhere: after renaming it says which it was."""
    return np.full(shape, number, np.float32)

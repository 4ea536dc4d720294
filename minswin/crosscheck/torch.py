"""One line for a PyTorch model: run it on the recipe's weights and images, compare, and diagnose.

    from minswin.crosscheck.torch import check
    print(check(module, model="swin_tiny", img_size=224))

The module's own weights are put back. `keep` alone hands out what every submodule gives, for
models whose weights have names that minswin does not know:

    with keep(module) as seen:
        criterion(module(images), labels).backward()
    seen.save("theirs.npz")                        # then: minswin compare TRACE theirs.npz
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minswin.crosscheck import recipe
from minswin.crosscheck.compare import Comparison, compare
from minswin.crosscheck.diagnose import SECONDS, Diagnosis, diagnose
from minswin.crosscheck.printed import report
from minswin.crosscheck.trace import trace
from minswin.models import create_model
from minswin.weights.recognise import dialect
from minswin.weights.rename import rename

if TYPE_CHECKING:
    import torch  # at run time where it is used: the package does not need it

Array = np.ndarray


class Checked(NamedTuple):
    """What a check found; printed, it is the report of `minswin compare`."""

    text: str
    passed: bool
    comparison: Comparison
    diagnosis: Diagnosis | None

    def __str__(self) -> str:
        return self.text


def check(
    module: torch.nn.Module,
    *,
    model: str,
    names: Mapping[str, str] | None = None,
    grad: bool = False,
    images: int = 2,
    dialect_of_names: str | None = None,
    seconds: float = SECONDS,
    every: bool = False,
    **settings: Any,
) -> Checked:
    """Hold a module against minswin's model of this name and settings.

    names: our names to those of submodules, where they are to be paired by hand   grad: gradients
    too   dialect_of_names: whose names the module's weights have, if it is not recognised
    settings: of create_model, such as img_size
    """
    ours = create_model(model, rng=np.random.default_rng(0), **settings)
    state = recipe.weights(ours.state_dict(), np.float32)
    x = recipe.images(images, 3, ours.img_size)
    labels = recipe.labels(images, int(np.shape(state["head.bias"])[0]))
    header = {"model": model, "overrides": {n: repr(v) for n, v in settings.items()}}

    def build(dtype: Any) -> Any:
        return create_model(model, rng=np.random.default_rng(0), dtype=dtype, **settings)

    truth = trace(build, x, labels, grad=grad, header=header)
    own = {n: t.detach().numpy() for n, t in module.state_dict().items()}
    theirs = _run(module, rename(state, "minswin", dialect_of_names or dialect(own), model=ours),
                  x, labels, grad)  # fmt: skip
    comparison = compare(truth, theirs, names)
    found = diagnose(truth, comparison, seconds=seconds)
    return Checked(
        report(truth, comparison, found, every=every), comparison.passed, comparison, found
    )


def _run(
    module: torch.nn.Module, state: Mapping[str, Array], x: Array, labels: Array, grad: bool
) -> dict[str, Array]:
    """What the submodules give with these weights; the module is as it was afterwards."""
    import torch

    before = {n: t.detach().clone() for n, t in module.state_dict().items()}
    training, like = module.training, next(module.parameters())
    try:
        tensors = {n: torch.as_tensor(np.array(a)) for n, a in state.items() if n in before}
        loaded = module.load_state_dict(tensors, strict=False)
        learnt = {n for n, _ in module.named_parameters()}
        missing = [n for n in loaded.missing_keys if n in learnt]
        if missing:
            raise ValueError(
                f"check: {len(missing)} parameters of the module are not minswin's: "
                f"{', '.join(missing[:3])} …; hand out its tensors with `keep`, and its weights "
                "with the trace"
            )
        module.eval()
        module.zero_grad()
        with keep(module) as seen, torch.set_grad_enabled(grad):
            y = module(torch.as_tensor(x).to(like.device, like.dtype))
            y = getattr(y, "logits", y)
            if grad:
                target = torch.as_tensor(labels).to(like.device)
                torch.nn.functional.cross_entropy(y, target).backward()
    finally:
        module.load_state_dict(before)
        module.train(training)
        module.zero_grad()
    return seen.arrays


class Seen:
    """Arrays by the name of the module that gave them; a gradient is "cotangent/" + name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._calls: Counter[str] = Counter()

    def output(self, name: str, y: Any) -> None:
        """The first tensor of what a module gave; a second call of the module is called NAME#2."""
        import torch

        while isinstance(y, (tuple, list, Mapping)) and y:
            y = next(iter(y.values())) if isinstance(y, Mapping) else y[0]
        if not isinstance(y, torch.Tensor):
            return
        self._calls[name] += 1
        key = name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"
        self.arrays[key] = _array(y)
        if y.requires_grad:
            y.register_hook(lambda g: self.arrays.update({f"cotangent/{key}": _array(g)}))

    def save(self, file: str) -> None:
        np.savez(file, **self.arrays)  # type: ignore[arg-type]


def _array(x: torch.Tensor) -> Array:
    import torch

    x = x.detach().float() if x.dtype == torch.bfloat16 else x.detach()  # NumPy has no bfloat16
    array: Array = x.cpu().numpy().copy()  # a later module may write into it
    return array


@contextmanager
def keep(model: torch.nn.Module) -> Iterator[Seen]:
    """While it is open, every submodule's output is kept by its name."""
    seen, handles = Seen(), []

    def watch(name: str) -> Any:
        return lambda module, given, y: seen.output(name, y)

    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(watch(name or "output")))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                seen.arrays[f"cotangent/{name}"] = _array(parameter.grad)

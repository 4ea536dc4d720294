"""One line for a PyTorch model: run it on the recipe's weights and images, compare, and diagnose.

    from minswin.crosscheck.torch import check
    print(check(module, model="swin_tiny", img_size=224))

The module's own weights are put back. Whose names they have is recognised (timm, transformers,
microsoft, …); names of a port's own, all or the few that differ, are said in a map, whose lines
speak of weights and outputs:

    check(module, model="swin_tiny", img_size=224, names={"layers.{i}.blocks.{j}.*": "s{i}.b{j}.*"})

Weights that are kept in another way, queries apart from keys, say, are made by a function:

    check(module, model="vit_tiny", weights=lambda ours: {"to_q.weight": ours["…"][:192], …})

`keep` alone hands out what every submodule gives:

    with keep(module) as seen:
        criterion(module(images), labels).backward()
    seen.save("theirs.npz")                        # then: minswin compare TRACE theirs.npz
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minswin.arguments import whole
from minswin.crosscheck import recipe
from minswin.crosscheck.align import without_copies
from minswin.crosscheck.commands import Checked, checked
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import SECONDS
from minswin.crosscheck.folder import COTANGENT, builder, header_of
from minswin.crosscheck.names import NOTHING, lines_of, weight_names
from minswin.crosscheck.saving import array_of, save
from minswin.crosscheck.trace import trace
from minswin.waiting import Waiting
from minswin.weights.recognise import dialect
from minswin.weights.rename import rename

if TYPE_CHECKING:
    import torch  # at run time where it is used: the package does not need it

__all__ = ["Checked", "Seen", "check", "keep"]

Array = np.ndarray
State = dict[str, Array]
Lines = list[tuple[str, str]]


def check(
    module: torch.nn.Module,
    *,
    model: str,
    names: Path | str | Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    grad: bool = False,
    images: int = 2,
    weights: Callable[[State], Mapping[str, Any]] | None = None,
    dialect_of_names: str | None = None,
    seconds: float = SECONDS,
    every: bool = False,
    **settings: Any,
) -> Checked:
    """Hold a module against minswin's model of this name and settings.

    names: a map, or its file (see names.py): our names to those of submodules and weights
    weights: makes the module's state of ours, where names alone do not tell it
    grad: gradients too   dialect_of_names: whose names the module's weights have, if it is not
    recognised and is not in the map   seconds: of CPU time for the search of the cause
    every: tell of all tensors   settings: of create_model, such as img_size
    Raises ValueError where the module has no parameters, or one of them gets no weight.
    """
    build = builder(model, settings)
    ours = build(np.float32)
    ours.load_state_dict(recipe.weights(ours.state_dict(), np.float32))
    state = ours.state_dict()
    x = recipe.images(whole("check", "images", images), 3, ours.img_size)
    labels = recipe.labels(images, int(np.shape(state["head.bias"])[0]))
    lines = lines_of(names)
    own = {n: _array(t) for n, t in module.state_dict().items()}
    put = _Weights(module, own, state, lines, weights, dialect_of_names, ours)
    told = {"model": model, "grad": grad, "images": images, **settings}
    command = f"check(module, {', '.join(f'{name}={value!r}' for name, value in told.items())})"
    with Waiting("check") as waiting:
        waiting.now("the module itself")
        theirs = _run(module, put.theirs, x, labels, grad)
        header = header_of(model, settings)
        truth = trace(build, x, labels, grad=grad, header=header, tell=waiting.now)
        truth.arrays.pop("float32")  # what it is off is known
        theirs = put.with_our_gradients(theirs)
        found = compare(truth, theirs, lines + put.none_of_ours, seconds=seconds, tell=waiting.now)
        return checked(
            truth, found, seconds=seconds, every=every, command=command, tell=waiting.now
        )


class _Weights:
    """Our weights under the module's names, by a map or by the names of a known library."""

    def __init__(
        self,
        module: torch.nn.Module,
        own: State,
        state: State,
        lines: Lines,
        made: Callable[[State], Mapping[str, Any]] | None,
        whose: str | None,
        ours: Any,
    ) -> None:
        self.ours, self.whose = ours, whose
        self.none_of_ours: Lines = []  # as the map says it: these were put in, so they are right
        learnt = [n for n, _ in module.named_parameters()]
        if not learnt:
            raise ValueError(f"check: {type(module).__name__} has no parameters to put weights in")
        named = weight_names(lines, state)
        self.named = {n: t for n, t in named.items() if t in learnt}
        self.back = {t: n for n, t in self.named.items()}
        if made is not None:
            self.theirs = {n: np.asarray(x) for n, x in made(state).items()}
            own_ways = {n: x for n, x in self.theirs.items() if n in learnt}
            strange = without_copies(own_ways, [(x, None) for x in state.values()])
            self.none_of_ours = [(NOTHING, to + n) for n in strange for to in ("", COTANGENT)]
        elif set(self.named.values()) >= set(learnt):
            self.theirs = {t: state[n] for n, t in self.named.items()}
        else:
            known = {self.back.get(t, t): x for t, x in own.items()}
            self.whose = whose or self._recognised(known, learnt)
            self.theirs = rename(state, "minswin", self.whose, model=ours)
            self.theirs |= {t: state[n] for n, t in self.named.items()}
        _require_all(learnt, own, self.theirs)

    def _recognised(self, own: State, learnt: list[str]) -> str:
        try:
            return dialect(own)
        except ValueError as error:
            missing = [n for n in learnt if n not in self.named.values()]
            raise ValueError(
                f"check: {len(missing)} of {len(learnt)} parameters of the module have no weight: "
                f"{', '.join(missing[:3])} …; say in names= what they are, such as "
                f"{{'head.*': 'fc.*'}}, or make them in weights= ({error})"
            ) from None

    def with_our_gradients(self, theirs: State) -> State:
        """Gradients of weights under our names, where all of them are there."""
        names = {t: COTANGENT + t for t in self.theirs if COTANGENT + t in theirs}
        rest = {n: x for n, x in theirs.items() if n not in names.values()}
        gradients = {t: theirs[n] for t, n in names.items()}
        if not self.named and self.whose is None:  # their own names
            return theirs
        if self.whose is None:
            return rest | {COTANGENT + self.back[t]: g for t, g in gradients.items()}
        try:
            known = {self.back.get(t, t): g for t, g in gradients.items()}
            renamed = rename(known, self.whose, "minswin", model=self.ours)
        except ValueError:  # such as of a part that no layer of ours has
            return theirs
        return rest | {COTANGENT + n: g for n, g in renamed.items()}


def _require_all(learnt: list[str], own: State, theirs: State) -> None:
    missing = [n for n in learnt if n not in theirs]
    if missing:
        raise ValueError(
            f"check: {len(missing)} of {len(learnt)} parameters of the module are not minswin's: "
            f"{', '.join(missing[:3])} …; say in names= what they are, or give a "
            "setting with which minswin's model has them"
        )
    bad = [n for n in learnt if theirs[n].shape != own[n].shape]
    if bad:
        raise ValueError(
            f"check: {bad[0]} has shape {own[bad[0]].shape}, expected {theirs[bad[0]].shape}: do "
            "the settings that were given to check fit the module?"
        )


def _run(
    module: torch.nn.Module, state: Mapping[str, Array], x: Array, labels: Array, grad: bool
) -> State:
    """What the submodules give with these weights; the module is as it was afterwards."""
    import torch

    before = {n: t.detach().clone() for n, t in module.state_dict().items()}
    modes = [(part, part.training) for part in module.modules()]
    gradients = [(p, p.grad) for p in module.parameters()]
    like = gradients[0][0]
    try:
        tensors = {n: torch.as_tensor(np.array(a)) for n, a in state.items() if n in before}
        module.load_state_dict(tensors, strict=False)
        module.eval()
        module.zero_grad(set_to_none=True)  # theirs are put back below
        with keep(module) as seen, torch.set_grad_enabled(grad):
            y = module(torch.as_tensor(x).to(like.device, like.dtype))
            y = getattr(y, "logits", y)
            if grad:
                target = torch.as_tensor(labels).to(like.device)
                torch.nn.functional.cross_entropy(y, target).backward()
    finally:
        module.load_state_dict(before)
        for part, mode in modes:
            part.training = mode
        for p, gradient in gradients:
            p.grad = gradient
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
            y.register_hook(lambda g: self.gradient(key, g))

    def gradient(self, name: str, g: Any) -> None:
        """None is given for a part of an output that nothing was made of."""
        if g is not None:
            self.arrays[COTANGENT + name] = _array(g)

    def save(self, file: Path | str) -> None:
        """Write all of it to an .npz file."""
        save(file, self.arrays)


def _array(x: torch.Tensor) -> Array:
    return np.array(array_of(x))  # a later module may write into it


@contextmanager
def keep(model: torch.nn.Module) -> Iterator[Seen]:
    """While it is open, every submodule's output is kept by its name; weights are, as they came in.

    Weights tell which layer of ours a submodule is, whatever it gives; of a lazy layer, which has
    none before its first call, there are none.
    """
    from torch.nn.parameter import is_lazy

    seen, handles = Seen(), []
    weights = [(name, p) for name, p in model.named_parameters() if not is_lazy(p)]
    seen.arrays |= {name: _array(p) for name, p in weights}

    for name, module in model.named_modules():
        called = name or "output"
        hook = module.register_forward_hook(lambda m, given, y, n=called: seen.output(n, y))
        handles.append(hook)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            seen.gradient(name, parameter.grad)

"""One line for a PyTorch model: run it on the recipe's weights and images, compare, and diagnose.

    from minswin.crosscheck.torch import check
    print(check(module, model="swin_tiny", img_size=224))

The module's own weights are put back. Whose names they have is recognised (timm, transformers,
microsoft, …); names of a port's own are said in a map, whose lines speak of weights and outputs:

    check(module, model="swin_tiny", img_size=224, names={"layers.{i}.blocks.{j}.*": "s{i}.b{j}.*"})

`keep` alone hands out what every submodule gives:

    with keep(module) as seen:
        criterion(module(images), labels).backward()
    seen.save("theirs.npz")                        # then: minswin compare TRACE theirs.npz
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minswin.arguments import whole
from minswin.crosscheck import recipe
from minswin.crosscheck.commands import Checked, checked
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import SECONDS
from minswin.crosscheck.folder import COTANGENT, builder, header_of
from minswin.crosscheck.names import lines_of, resolve, weight_names
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
    dialect_of_names: str | None = None,
    seconds: float = SECONDS,
    every: bool = False,
    **settings: Any,
) -> Checked:
    """Hold a module against minswin's model of this name and settings.

    names: a map, or its file (see names.py): our names to those of submodules and weights
    grad: gradients too   dialect_of_names: whose names the module's weights have, if it is not
    recognised and is not in the map   seconds: of CPU time for the search of the cause
    every: tell of all tensors   settings: of create_model, such as img_size
    Raises ValueError where a parameter of the module gets no weight.
    """
    build = builder(model, settings)
    ours = build(np.float32)
    ours.load_state_dict(recipe.weights(ours.state_dict(), np.float32))
    state = ours.state_dict()
    x = recipe.images(whole("check", "images", images), 3, ours.img_size)
    labels = recipe.labels(images, int(np.shape(state["head.bias"])[0]))
    lines = lines_of(names)
    own = {n: _array(t) for n, t in module.state_dict().items()}
    weights = _Weights(module, own, state, lines, dialect_of_names, ours)
    told = {"model": model, "grad": grad, "images": images, **settings}
    command = f"check(module, {', '.join(f'{name}={value!r}' for name, value in told.items())})"
    with Waiting("check") as waiting:
        waiting.now("the module itself")
        theirs = _run(module, weights.theirs, x, labels, grad)
        header = header_of(model, settings)
        truth = trace(build, x, labels, grad=grad, header=header, tell=waiting.now)
        truth.arrays.pop("float32")  # what it is off is known
        lines = weights.lines_of(truth.steps, theirs, lines)
        theirs = weights.with_our_gradients(theirs)
        found = compare(truth, theirs, lines, seconds=seconds, tell=waiting.now)
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
        whose: str | None,
        ours: Any,
    ) -> None:
        self.ours, self.whose = ours, whose
        learnt = [n for n, _ in module.named_parameters()]
        named = weight_names(lines, state)
        self.pairs = {n: t for n, t in named.items() if t in learnt}
        if set(self.pairs.values()) >= set(learnt):
            self.theirs = {t: state[n] for n, t in self.pairs.items()}
        else:
            self.whose = whose or self._recognised(own, learnt)
            self.theirs = rename(state, "minswin", self.whose, model=ours)
            self.pairs = {**self._by_number(state, learnt), **self.pairs}
        _require_all(learnt, own, self.theirs)

    def _recognised(self, own: State, learnt: list[str]) -> str:
        try:
            return dialect(own)
        except ValueError as error:
            missing = [n for n in learnt if n not in self.pairs.values()]
            raise ValueError(
                f"check: {len(missing)} of {len(learnt)} parameters of the module have no weight: "
                f"{', '.join(missing[:3])} …; say in names= what they are, such as "
                f"{{'head.*': 'fc.*'}} ({error})"
            ) from None

    def _by_number(self, state: State, learnt: list[str]) -> dict[str, str]:
        """Which weight of ours each of theirs is, where one is the other: numbers are renamed."""
        assert self.whose is not None
        numbered = {
            n: np.full(np.shape(x), i, np.float32) for i, (n, x) in enumerate(state.items())
        }
        try:
            renamed = rename(numbered, "minswin", self.whose, model=self.ours)
        except ValueError:
            return {}
        counts = Counter(int(x.flat[0]) for t, x in renamed.items() if t in learnt)
        names = list(state)
        return {
            names[int(x.flat[0])]: t
            for t, x in renamed.items()
            if t in learnt and counts[int(x.flat[0])] == 1 and np.ptp(x) == 0
        }

    def lines_of(self, steps: Mapping[str, Any], theirs: State, lines: Lines) -> Lines:
        """The map, with the outputs of layers whose weights are paired."""
        layers = {n.rpartition(".")[0]: t.rpartition(".")[0] for n, t in self.pairs.items()}
        found = [(n, t) for n, t in layers.items() if n in steps and t in theirs and n != t]
        # what is kept as windows has another first axis: its values tell how it is put together
        found = [(n, t) for n, t in found if len(steps[n].value) == len(theirs[t])]
        said = resolve(lines, steps, theirs) if lines else None
        known = {*said.pairs, *said.ours} if said is not None else set()
        taken = set(said.pairs.values()) if said is not None else set()
        return [*lines, *((n, t) for n, t in found if n not in known and t not in taken)]

    def with_our_gradients(self, theirs: State) -> State:
        """Gradients of weights under our names, where all of them are there."""
        names = {t: COTANGENT + t for t in self.theirs if COTANGENT + t in theirs}
        rest = {n: x for n, x in theirs.items() if n not in names.values()}
        gradients = {t: theirs[n] for t, n in names.items()}
        if self.whose is None:
            back = {t: n for n, t in self.pairs.items()}
            return rest | {COTANGENT + back[t]: g for t, g in gradients.items()}
        try:
            renamed = rename(gradients, self.whose, "minswin", model=self.ours)
        except ValueError:  # such as of a part that no layer of ours has
            return theirs
        return rest | {COTANGENT + n: g for n, g in renamed.items()}


def _require_all(learnt: list[str], own: State, theirs: State) -> None:
    missing = [n for n in learnt if n not in theirs]
    if missing:
        raise ValueError(
            f"check: {len(missing)} of {len(learnt)} parameters of the module are not minswin's: "
            f"{', '.join(missing[:3])} …; say in names= what they are"
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
        """That of an output; None is given for a part of one that nothing was made of."""
        if g is not None:
            self.arrays[f"cotangent/{name}"] = _array(g)

    def save(self, file: Path | str) -> None:
        """Write all of it to an .npz file."""
        save(file, self.arrays)


def _array(x: torch.Tensor) -> Array:
    return np.array(array_of(x))  # a later module may write into it


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

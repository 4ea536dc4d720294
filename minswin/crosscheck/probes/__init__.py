"""Probes: small inputs, each aimed at a known mistake, with the answer that the definitions give.

The inputs are exact in float32, so float32 and float64 start from the same numbers. The truth is
computed in float64 by minswin's definitions when it is asked for, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from minswin import kernels
from minswin.crosscheck import own, recipe
from minswin.crosscheck.adapter import FUNCTIONS, Adapter

Arrays = dict[str, np.ndarray]
LEAVING = KeyboardInterrupt, GeneratorExit  # all else is a finding, a panic of Rust among it
ALL = "gradients by all inputs, at a random cotangent: of ones, half of them vanish"


@dataclass(frozen=True, eq=False)
class Probe:
    """One question to one function of the protocol.

    length: terms of the longest chain of sums; 0: data is only moved, and no digit may differ
    condition: how much larger a rounding error of the inputs' size may come out
    """

    name: str  # window_attention/padded
    aim: str  # what goes wrong elsewhere
    arguments: dict[str, Any]  # by name, in the order of the call
    threads: tuple[str, ...] = ()  # where others met it: owner/repository#number
    length: int = 0
    condition: float = 1.0

    @property
    def function(self) -> str:
        return self.name.split("/")[0]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.function,)

    def missing(self, adapter: Adapter) -> str:
        """Why the question cannot be put; "" if it can."""
        return adapter.lacks(self.needs)

    @cached_property
    def expected(self) -> Arrays:
        """The outputs by name, in float64."""
        with kernels.using("reference"):
            return ask(getattr(own, self.function), self, np.dtype("float64"))

    def allowed(self, truth: np.ndarray, dtype: np.dtype[Any]) -> float:
        """The largest error that rounding explains: ε · terms · condition · the largest number."""
        scale = max(float(abs(truth).max(initial=0)), 2.0**-20)
        return float(np.finfo(dtype).eps) * self.length * self.condition * scale

    def arrays(self) -> Arrays:
        """The inputs by name, those inside params, state and images among them."""
        found: Arrays = {}
        for name, value in self.arguments.items():
            if name not in self.settings():
                found |= value if isinstance(value, dict) else {name: value}
        return found

    def settings(self) -> dict[str, Any]:
        """What is no array."""
        given = self.arguments.items()
        return {n: x for n, x in given if not isinstance(x, np.ndarray) and not is_arrays(x)}


def is_arrays(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(x, np.ndarray) for x in value.values())


def ask(function: Callable[..., Any], probe: Probe, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Call a function of an adapter with fresh copies of the inputs; its answers by name."""
    arguments = [cast(value, dtype) for value in probe.arguments.values()]
    if probe.function == "build_model":
        config, state, images = arguments
        forward = function(config, state)
        if not callable(forward):
            return {"y": forward}
        return {name.replace("image", "logits"): forward(x) for name, x in images.items()}
    answer = function(*arguments)
    return dict(answer) if isinstance(answer, Mapping) else {"y": answer}


def array_of(given: Any) -> np.ndarray:
    """What an adapter gave, as an array of numbers; raises where it is none."""
    if given is None:
        raise TypeError("the adapter gave None")
    if isinstance(given, Exception):  # of a file
        raise TypeError(given)
    try:
        array = np.asarray(given)
    except LEAVING:
        raise
    except BaseException as error:  # ragged lists, tensors that need a gradient or are on a device
        raise TypeError(f"no array but {type(given).__name__}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"no numbers but {type(given).__name__} of {array.dtype}")
    return array


def cast(value: Any, dtype: np.dtype[Any]) -> Any:
    """A copy of its own, floating arrays in `dtype`."""
    if isinstance(value, dict):
        return {name: cast(inner, dtype) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return value.astype(dtype if value.dtype.kind == "f" else value.dtype)
    return value


def probe(
    name: str, aim: str, *arguments: Any, grad: int | None = None, grad_aim: str = ALL, **more: Any
) -> tuple[Probe, ...]:
    """A probe from the arguments in the order of the protocol, rounded to float32.

    grad: with that of all its gradients, see `gradient`   more: threads, length, condition
    """
    names = FUNCTIONS[name.split("/")[0]].arguments
    if name.startswith("build_model/"):
        names = (*names, "images")
    given = cast(cast(dict(zip(names, arguments, strict=True)), np.dtype("f4")), np.dtype("f8"))
    base = Probe(name, aim, given, **more)
    return (base,) if grad is None else (base, gradient(base, grad_aim, length=grad))


def gradient(base: Probe, aim: str = ALL, *, length: int = 0) -> Probe:
    """The probe of all gradients at the same inputs, for a random cotangent.

    length: terms in the sums of the gradients, besides those of the way there and back
    """
    function, case = base.name.split("/")
    (y,) = base.expected.values()
    arguments = {**base.arguments, "cotangent": recipe.array(f"cotangent/{base.name}", y.shape)}
    chain = 3 * base.length + length if base.length else 0
    return Probe(f"{function}_grad/{case}", aim, arguments, base.threads, chain, 4 * base.condition)


def values(name: str, *shape: int) -> np.ndarray:
    """Numbers of the recipe: between −1 and 1, exact in float32."""
    return recipe.array(name, shape)


def counted(*shape: int) -> np.ndarray:
    """0, 1, 2, …: every element is told from every other."""
    return np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)


@lru_cache(maxsize=1)
def pack() -> tuple[Probe, ...]:
    """All probes, in the order in which a model is built: what fails first is the cause."""
    from minswin.crosscheck.probes import layers, models

    order = {name: i for i, name in enumerate(FUNCTIONS)}
    every = (*layers.probes(), *models.probes())
    return tuple(sorted(every, key=lambda p: order[p.function.removesuffix("_grad")]))


def selected(only: Sequence[str], among: Sequence[Any] | None = None) -> tuple[Any, ...]:
    """The probes, or questions of `among`, whose names contain one of `only`; all without it."""
    every = pack() if among is None else among
    found = tuple(p for p in every if not only or any(text in p.name for text in only))
    if not found:
        raise ValueError(
            f"conform: no probe's name contains {' or '.join(only)}; "
            "'minswin conform --list' shows them"
        )
    return found

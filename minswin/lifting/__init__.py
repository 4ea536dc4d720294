"""From a definition on arrays to an operation on Tensors: checked, recorded, run by a kernel.

An operation unwraps its inputs once, runs the kernel that `kernels.fast` has for its name, or else
the definition, and records the result for `backward`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol, cast

import numpy as np

from minswin import kernels
from minswin.arguments import pair, switch, switches_of
from minswin.arrays import Definition
from minswin.autograd import Tensor, record, state, vjp
from minswin.lifting import shapes
from minswin.lifting.calls import Call, named, remember, signature_of
from minswin.lifting.inputs import Unwrapped, unwrapping

Check = Callable[..., None]
MAY_BE_ZERO = ("padding", "shift")  # of the settings that are pairs


class Lifted(Protocol):
    """A function on Tensors."""

    __name__: str
    __signature__: inspect.Signature
    definition: Definition  # what runs where no kernel does

    def __call__(self, *inputs: Any, **settings: Any) -> Tensor: ...


class Composite(Lifted, Protocol):
    """An operation that is defined by others."""

    function: Callable[..., Tensor]  # the definition, on Tensors


OPERATIONS: dict[str, Lifted] = {}  # by the names of their definitions


def composite(
    check: Check | None = None, **hints: str
) -> Callable[[Callable[..., Tensor]], Composite]:
    """Decorator: make an operation of a function on Tensors, which a kernel may replace.

    Where no kernel of its name is chosen the function runs, and is recorded step by step.
    """

    def enter(function: Callable[..., Tensor]) -> Composite:
        operation = cast(
            Composite, lift(vjp(function), check, function=function, real=False, **hints)
        )
        operation.function = function
        return operation

    return enter


def lift(
    definition: Definition,
    check: Check | None = None,
    *,
    function: Callable[..., Tensor] | None = None,
    real: bool = False,
    **hints: str,
) -> Lifted:
    """Make an operation on Tensors from a definition on arrays.

    check: raises for what shapes do not show   hints: what to do, by the name of a wrong argument
    function: of a composite, the definition on Tensors
    real: its answer is no integer, so that integers alone become float64 first
    """
    parameters = inspect.signature(function or definition).parameters.values()
    call = Call(
        definition.__name__,
        shapes.arguments_of(definition),
        signature_of(definition),
        {p.name for p in parameters if p.annotation in ("Pair", "tuple[int, int]")},
        switches_of(function or definition),
        hints,
    )
    lifted = OPERATIONS[call.name] = _operation(
        call, definition, check, function, unwrapping(call.arguments, real=real)
    )
    lifted.definition = definition
    lifted.__signature__ = call.signature.replace(return_annotation=Tensor)
    return lifted


def _operation(
    call: Call,
    definition: Definition,
    check: Check | None,
    function: Any | None,
    unwrap: Callable[..., Unwrapped],
) -> Lifted:
    """The function on Tensors: it unwraps, checks each new kind of call, runs and records."""
    name, pairs = call.name, call.pairs
    right: set[tuple[Any, ...]] = set()  # shapes and names of settings that fit

    @wraps(function or definition)
    def operation(*inputs: Any, **settings: Any) -> Tensor:
        fusion, first = kernels.FUSIONS.get(name), inputs[0] if inputs else None
        if type(first) is Tensor and type(first.data) is np.ndarray:
            fusion = None  # of arrays on a GPU, or of what is postponed there
        if fusion is not None and getattr(state.around, "fusible", True):
            fused = fusion(*inputs, **settings)
            if fused is not None:
                return cast(Tensor, fused)
        values, arrays, sizes = unwrap(name, call.arguments, inputs, call.hints)
        if (sizes, *settings) not in right:
            call.check(inputs, arrays, settings)
            remember(right, (sizes, *settings))
        for key, value in settings.items():
            if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
                value = settings[key] = value.item()  # else it would force its dtype on the result
            if key in pairs:  # one int is a square
                least = 0 if key in MAY_BE_ZERO else 1
                ints = type(value) is tuple and [*map(type, value)] == [int, int]
                if not ints or min(value) < least:
                    settings[key] = pair(name, key, value, least=least)
            elif key in call.switches and type(value) is not bool:
                settings[key] = switch(name, key, value)
        if check is not None:
            check(*arrays, **settings)
        fast = kernels.fast(name, arrays[0])
        if function is not None and not _takes(fast, arrays, settings):
            return function(*values, **settings)
        try:
            if state.around is not None:
                return state.around(fast or lifted.definition, values, settings)
            value, pull = (fast or lifted.definition)(*arrays, **settings)
            return record(name, values, value, pull)
        except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            raise named(name, error, sizes) from error

    lifted = cast(Lifted, operation)
    return lifted


def _takes(
    fast: Callable[..., Any] | None, arrays: Sequence[Any], settings: dict[str, Any]
) -> bool:
    """Whether there is a kernel of a composite, and it takes these inputs."""
    takes = getattr(fast, "takes", None)
    return fast is not None and (takes is None or takes(*arrays, **settings))

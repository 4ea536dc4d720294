"""What is annotated as a bool takes True and False: every public function and constructor says so.

"no" and "false" are true in Python, so an option that came as a word would be switched on unseen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from promises import is_ours
from test_public_names import MODULES, load

from minswin.arguments import switches_of
from minswin.layers import Layer, Parameter, WindowAttention
from minswin.training.evaluation import evaluate_checkpoint

EXEMPT = {
    "minswin.crosscheck.diagnose.Diagnosis": "a result: `diagnose` alone makes it",
    "minswin.reference": "definitions check nothing: what calls them does",
}
DATA = {"self": Layer(), "named_parameters": [("w", Parameter(np.ones((2, 2))))], "lr": 0.1}
BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def functions() -> Iterator[tuple[str, Callable[..., Any], frozenset[str]]]:
    """(name, what is called, its switches) of all that is public, and of the test of a run."""
    yield "evaluate_checkpoint", evaluate_checkpoint, switches_of(evaluate_checkpoint)
    seen: set[int] = set()
    for module, name in ((load(m), name) for m in MODULES for name in load(m).__all__):
        value: Any = getattr(module, name)
        if not is_ours(value) or id(value) in seen:
            continue
        seen.add(id(value))
        built = isinstance(value, type) and not issubclass(value, Layer)
        switches = switches_of(value.__init__ if built else value)
        yield f"{module.__name__}.{name}", value, switches
        for key, method in vars(value).items() if isinstance(value, type) else ():
            if inspect.isfunction(method) and key[0] != "_":
                yield f"{name}.{key}", method, switches_of(method)


FOUND = {
    (name, switch): function
    for name, function, switches in functions()
    for switch in sorted(switches)
    if not name.startswith(tuple(EXEMPT))
}


def call(name: str, function: Callable[..., Any], **settings: Any) -> Any:
    """Call with nothing sensible but the settings: they are to be looked at first."""
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.name not in ("init", *settings)]
    data = [DATA.get(p.name, np.ones(2)) for p in needed if p.kind in BY_POSITION]
    named = {p.name: None for p in needed if p.kind is p.KEYWORD_ONLY}
    return function(*data, **named, **settings)


def test_switches_are_found_in_every_way_that_they_are_declared() -> None:
    """Were a way of finding them broken, nothing would be tested."""
    kinds = {
        ("minswin.Tensor", "requires_grad"),  # by position
        ("minswin.layers.WordEmbed", "legacy"),  # without a default
        ("minswin.models.SwinTransformerV2", "shift"),  # of the class above
        ("minswin.ops.sum", "keepdims"),  # of an operation
        ("Layer.train", "mode"),
        ("minswin.testing.windows", "square"),  # behind another decorator
    }
    assert kinds <= FOUND.keys()


@pytest.mark.parametrize(("name", "switch"), FOUND)
@pytest.mark.parametrize("value", ["no", 2, None])
def test_a_switch_is_no_word(name: str, switch: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{switch} must be True or False, got {value!r}"):
        call(name, FOUND[name, switch], **{switch: value})


def test_a_constructor_may_give_a_switch_of_the_class_above_another_meaning() -> None:
    class Displaced(WindowAttention):
        def __init__(self, *, shift: tuple[int, int], qkv_bias: Any, init: Any) -> None:
            super().__init__(4, 2, (2, 2), shift=any(shift), qkv_bias=qkv_bias, init=init)

    assert Displaced(shift=(1, 0), qkv_bias=True, rng=0).shift is True
    assert switches_of(WindowAttention) >= {"shift", "qkv_bias"}

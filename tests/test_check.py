"""The checker is itself checked: it must reject wrong rules, and say where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from table import COMPOSITES

from minswin.arrays import Definition
from minswin.check import check_vjp, main, samples
from minswin.lifting import OPERATIONS
from minswin.reference import attention, elementwise, linear, normalize

Gradients = tuple[Any, ...]


def spoiled(definition: Definition, spoil: Callable[[Gradients], Gradients]) -> Definition:
    """The definition with its right gradients replaced by spoil(gradients)."""

    def wrong(*arrays: np.ndarray, **settings: Any):
        value, pull = definition(*arrays, **settings)
        return value, lambda g: spoil(pull(g))

    wrong.__name__ = definition.__name__
    return wrong


@pytest.mark.parametrize(
    ("definition", "arrays", "settings"),
    [pytest.param(*s, id=s[0].__name__) for s in samples(np.random.default_rng(0))],
)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda gs: tuple(None if g is None else 0 * g for g in gs), id="zeros"),
        pytest.param(lambda gs: tuple(None if g is None else -g for g in gs), id="sign"),
        pytest.param(lambda gs: tuple(None if g is None else 1.001 * g for g in gs), id="1.001"),
    ],
)
def test_a_wrong_rule_is_rejected(definition, arrays, settings, spoil) -> None:
    with pytest.raises(AssertionError, match=f"{definition.__name__}: the gradient of argument 0"):
        check_vjp(spoiled(definition, spoil), *arrays, rng=np.random.default_rng(1), **settings)


def test_a_missing_term_is_rejected() -> None:
    def without_the_variance(x, weight, bias, *, eps=1e-5):
        value, pull = normalize.layer_norm(x, weight, bias, eps=eps)
        rstd = 1 / np.sqrt(x.var(-1, keepdims=True) + eps)

        def wrong(g):
            dxhat = g * weight
            return (dxhat - dxhat.mean(-1, keepdims=True)) * rstd, *pull(g)[1:]

        return value, wrong

    rng = np.random.default_rng(2)
    arrays = rng.standard_normal((3, 7)), rng.standard_normal(7), rng.standard_normal(7)
    with pytest.raises(AssertionError, match="without_the_variance: the gradient of argument 0"):
        check_vjp(without_the_variance, *arrays, rng=rng)


def test_swapped_outputs_are_rejected() -> None:
    rng = np.random.default_rng(3)
    swapped = spoiled(elementwise.multiply, lambda gs: (gs[1], gs[0]))
    with pytest.raises(AssertionError, match="multiply: the gradient of argument 0 is wrong"):
        check_vjp(swapped, *rng.standard_normal((2, 3, 4)), rng=rng)
    q, k, v = rng.standard_normal((3, 2, 5, 4))
    keys_for_queries = spoiled(attention.attention, lambda gs: (gs[1], gs[0], *gs[2:]))
    with pytest.raises(AssertionError, match="attention: the gradient of argument 0 is wrong"):
        check_vjp(keys_for_queries, q, k, v, None, rng=rng)


def test_the_message_names_operation_argument_worst_index_and_both_numbers() -> None:
    def off_in_one_place(x, y):
        value, pull = elementwise.multiply(x, y)

        def wrong(g):
            dx, dy = pull(g)
            dy[1, 2] += 0.5
            return dx, dy

        return value, wrong

    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 3, 4))
    with pytest.raises(AssertionError) as error:
        check_vjp(off_in_one_place, x, y, rng=rng)
    message = str(error.value)
    assert "off_in_one_place: the gradient of argument 1 is wrong, most at index (1, 2)" in message
    ours = float(message.split("vjp gives ")[1].split(",")[0])
    truth = float(message.split("differences give ")[1])
    assert abs(ours - truth - 0.5) < 1e-6


def test_a_gradient_of_another_shape_or_dtype_is_rejected() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 3))
    for spoil, came in (
        (lambda gs: (gs[0][:1],), r"\(1, 3\) float64"),
        (lambda gs: (gs[0].astype(np.float32),), r"\(2, 3\) float32"),
        (lambda gs: (None,), "None"),
    ):
        with pytest.raises(AssertionError, match=rf"exp: .* must be \(2, 3\) float64, got {came}"):
            check_vjp(spoiled(elementwise.exp, spoil), x, rng=rng)
    with pytest.raises(AssertionError, match="matmul: the vjp must return a tuple of 2 gradients"):
        check_vjp(spoiled(linear.matmul, lambda gs: gs[:1]), x, x.T, rng=rng)


def test_every_definition_has_a_sample() -> None:
    sampled = {definition.__name__ for definition, _, _ in samples(np.random.default_rng(0))}
    # The derivative of a text follows from its parts; the step of an optimizer has none.
    assert sampled == set(OPERATIONS) - COMPOSITES


def test_the_printed_table_names_every_operation(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    names = set(OPERATIONS) - COMPOSITES
    assert f"{len(names)} operations, the largest error " in printed and "(1e-09 is" in printed
    assert all(f".{name} " in printed for name in names)

"""The engine: fan-out, reuse, depth, memory, threads; it is tested with operations of its own."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from leaves import leaf

from minswin import Tensor, apply, no_grad, vjp
from minswin.arrays import adding
from minswin.autograd import is_recording


def test_a_value_used_twice_receives_the_sum() -> None:
    x = leaf(3.0)
    (x * x).backward()
    assert x.grad == 6

    y = leaf(3.0)
    (y + y).backward()
    assert y.grad == 2


def test_a_diamond_visits_each_node_once() -> None:
    calls = []

    def square(x: np.ndarray):
        def pull(g: np.ndarray):
            calls.append(g.copy())
            return (2 * x * g,)

        return x * x, pull

    x = leaf(2.0)
    middle = apply(square, x)  # 4
    (3 * middle + middle * middle).backward()  # 3x² + x⁴
    assert len(calls) == 1
    assert x.grad == 6 * 2 + 4 * 2**3


def test_a_gradient_that_nobody_else_holds_is_not_copied() -> None:
    """An array is known by its number, which the next one gets when it goes."""
    made = []

    def plus(x: np.ndarray, y: np.ndarray):
        def pull(g: np.ndarray):
            made.append(np.ones(3))
            return g.copy(), made[-1]

        return x + y.sum(), pull

    total, parts = leaf(0.0), [leaf(1.0, 1.0, 1.0) for _ in range(20)]
    for part in parts:
        total = apply(plus, total, part)
    total.backward()
    assert all(x.grad is g for x, g in zip(reversed(parts), made, strict=True))


def test_a_residual_chain_takes_linear_time() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2⁶⁰ paths
        y = y + y * 0.5
    y.backward()
    np.testing.assert_allclose(x.grad, 1.5**60, rtol=1e-12)


def long_chains(nodes: int) -> None:
    x = leaf(1.0)
    y = x
    for _ in range(nodes):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    y = x
    for _ in range(nodes):
        y = y + x
    del y  # freed without a backward


def test_a_long_chain_of_nodes_is_walked_and_freed_without_recursion() -> None:
    """In a thread with a stack of 256 KiB, which is 26 bytes for a node: no call takes so few."""
    before = threading.stack_size(2**18)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(long_chains, 10_000).result()
    finally:
        threading.stack_size(before)


def test_gradients_add_up_over_backwards_until_they_are_cleared() -> None:
    x = leaf(2.0)
    (x * 3.0).backward()
    (x * 5.0).backward()
    assert x.grad == 8
    x.grad = None
    (x * 7.0).backward()
    assert x.grad == 7


def test_what_a_vjp_keeps_is_freed_as_soon_as_it_was_used() -> None:
    class Kept(np.ndarray):
        pass

    seen: list[bool] = []

    def keeper(x: np.ndarray):
        kept = np.zeros(4).view(Kept)
        alive = weakref.ref(kept)

        def pull(g: np.ndarray, kept: Kept = kept):
            return (g + kept[0],)

        keepers.append(alive)
        return x + kept[0], pull

    def watcher(x: np.ndarray):
        def pull(g: np.ndarray):
            seen.append(keepers[0]() is None)
            return (g,)

        return x * 1, pull

    keepers: list[weakref.ref] = []
    y = apply(keeper, apply(watcher, leaf(1.0)))
    gc.disable()  # reference counts alone must do it
    try:
        y.backward()
    finally:
        gc.enable()
    assert seen == [True]


def test_a_result_that_no_vjp_keeps_does_not_stay_in_the_graph() -> None:
    x = leaf(1.0, 2.0)
    middle = x + 1.0
    data = weakref.ref(middle)
    result = middle + 2.0
    del middle
    assert data() is None
    result.backward(np.array([1.0, 1.0]))


def test_a_second_backward_through_a_used_graph_is_refused() -> None:
    x = leaf(1.0)
    y = x * x
    y.backward()
    with pytest.raises(ValueError, match=r"backward: the graph through 'multiply' was already use"):
        y.backward()


def test_the_cotangent_is_checked() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"g is needed for a result of shape \(2,\)"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"shape \(2,\) and dtype float64, got \(3,\)"):
        (x * 2.0).backward(np.zeros(3))
    with pytest.raises(ValueError, match=r"and dtype float64, got \(2,\) and float32"):
        (x * 2.0).backward(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="depends on nothing that requires_grad"):
        Tensor(np.ones(1)).backward()


def test_the_default_cotangent_of_a_nan_is_still_one() -> None:
    x = leaf(np.nan)
    (x + 1.0).backward()
    assert x.grad == 1


def test_a_gradient_of_none_stops_there_and_the_rest_goes_on() -> None:
    def first_only(x: np.ndarray, y: np.ndarray):
        return x + y, lambda g: (g, None)

    x, y = leaf(1.0), leaf(1.0)
    deep = y * 2.0
    (apply(first_only, x, deep) + deep * 3.0).backward()
    assert x.grad == 1
    assert y.grad == 6  # only through the second use

    z = leaf(1.0)
    apply(first_only, x, z * 2.0).backward()
    assert z.grad is None


def test_a_vjp_of_the_wrong_length_is_named() -> None:
    def broken(x: np.ndarray):
        return x, lambda g: (g, g)

    with pytest.raises(TypeError, match="the vjp of 'broken' must return a tuple of 1 gradients"):
        apply(broken, leaf(1.0)).backward()


def test_no_grad_records_nothing_and_is_per_thread() -> None:
    x = leaf(1.0)
    other: list[bool] = []
    with no_grad():
        y = x * 2.0
        thread = threading.Thread(target=lambda: other.append(is_recording()))
        thread.start()
        thread.join()
        assert not is_recording()
    assert other == [True]
    assert is_recording()
    assert not y.requires_grad


def test_no_grad_ends_with_an_error_too() -> None:
    with pytest.raises(RuntimeError), no_grad():
        raise RuntimeError
    assert is_recording()


def test_vjp_records_inside_no_grad_too() -> None:
    with no_grad():
        _, pull = vjp(lambda x: x * x)(np.array([3.0]))
        np.testing.assert_array_equal(pull(np.array([1.0]))[0], [6])


def test_vjp_turns_a_text_on_tensors_into_a_definition() -> None:
    rng = np.random.default_rng(0)
    x, y, g = rng.standard_normal((3, 2, 4))

    def text(x: Tensor, y: Tensor, *, factor: float) -> Tensor:
        return x * y * factor + x

    value, pull = vjp(text)(x, y, factor=3.0)
    np.testing.assert_allclose(value, 3 * x * y + x)
    dx, dy = pull(g)
    np.testing.assert_allclose(dx, g * (3 * y + 1))
    np.testing.assert_allclose(dy, g * 3 * x)


# ── whose array a gradient is ────────────────────────────────────────────────────────────────────


def test_every_leaf_owns_its_gradient() -> None:
    x, y, z = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    g = np.array([1.0, 2.0])
    (x + y + z.reshape(2)).backward(g)
    arrays = [x.grad, y.grad, z.grad, g]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    x.grad *= 10
    np.testing.assert_array_equal(y.grad, [1, 2])


def test_the_leaves_of_one_sum_have_gradients_of_their_own() -> None:
    """The vjp of + gives the same array out twice."""
    x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    ((x + y) * 3.0).sum().backward()
    assert not np.shares_memory(x.grad, y.grad)
    x.grad += 1
    assert y.grad.tolist() == [3, 3, 3]


def test_a_vjp_that_adds_gets_what_its_first_input_has_and_nothing_is_counted_twice() -> None:
    got = []

    def tripled(x: np.ndarray):
        @adding
        def vjp(g: np.ndarray, onto=None):
            got.append(None if onto is None else onto.tolist())
            return (3 * g if onto is None else onto + 3 * g,)

        return 3 * x, vjp

    x = leaf(1.0, 2.0)
    for y in (x, x * 1.0):  # a leaf, a node
        x.grad = None
        (y + apply(tripled, y) * 2.0).sum().backward()
        assert x.grad.tolist() == [7, 7]
    assert got == [[1, 1], [1, 1]]
    x.grad = None
    apply(tripled, x).sum().backward()
    assert x.grad.tolist() == [3, 3] and got[-1] is None
    apply(tripled, x).sum().backward()  # a leaf's grad is no part of it
    assert x.grad.tolist() == [6, 6] and got[-1] is None

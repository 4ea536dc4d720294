"""The engine: fan-out, reuse, depth, memory, threads. It is tested with operations of its own."""

from __future__ import annotations

import array
import gc
import operator
import threading
import weakref
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minswin import Tensor, apply, no_grad, ops, vjp
from minswin.arrays import adding
from minswin.autograd import is_recording


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


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


def test_arrays_on_the_left_reach_the_tensor() -> None:
    x = leaf(1.0, 2.0)
    y = np.array([3.0, 4.0]) * x + np.float64(1) - x / np.array([2.0, 2.0])
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.numpy(), [3.5, 8.0])
    np.testing.assert_array_equal(np.asarray(y), y.data)
    assert np.asarray(y, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_a_method_that_reduces_takes_its_axis_by_position_too(name: str) -> None:
    x = np.arange(6.0).reshape(2, 3)
    ours, theirs = getattr(Tensor(x), name), getattr(x, name)
    np.testing.assert_array_equal(ours(0), theirs(0))
    np.testing.assert_array_equal(ours((0, 1)), theirs())
    np.testing.assert_array_equal(ours(1, True), theirs(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.stack([x, x]),
        lambda x: np.concatenate((np.zeros(2), x)),
        lambda x: np.mean(x, axis=0),
        lambda x: np.einsum("i,i", x, np.ones(2)),
        lambda x: np.where([True, False], x, 0),
        lambda x: np.split(x, 2),
        lambda x: np.linalg.norm(x),
        lambda x: np.pad(array=x, pad_width=1),
    ],
)
def test_a_function_of_numpy_never_drops_a_gradient_unseen(call) -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match="has no gradient, and the Tensors given require one"):
        call(x)
    with no_grad():
        np.testing.assert_array_equal(call(x), call(x.data))
    np.testing.assert_array_equal(call(x.detach()), call(x.data))


def test_a_function_of_numpy_that_has_no_gradient_takes_a_tensor() -> None:
    x = leaf(1.0, 2.0)
    assert np.array_equal(x, [1, 2]) and np.argmax(x) == 1 and np.shape(x) == (2,)
    (x * x).backward(np.ones_like(x))
    np.testing.assert_array_equal(x.grad, [2, 4])
    np.testing.assert_array_equal(np.array(x), [1, 2])  # asked for by name, as for a picture


def test_every_leaf_owns_its_gradient() -> None:
    x, y, z = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    g = np.array([1.0, 2.0])
    (x + y + z.reshape(2)).backward(g)
    arrays = [x.grad, y.grad, z.grad, g]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    x.grad *= 10
    np.testing.assert_array_equal(y.grad, [1, 2])


def test_integers_and_numbers_never_widen_or_cut_off_a_dtype() -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    y = x * np.array([1, 2, 3]) + np.float64(0.5) + np.sqrt(2) - 1
    y.backward(np.ones(3, np.float32))
    assert y.dtype == x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [1, 2, 3])
    np.testing.assert_array_equal((Tensor(np.array([1, 2, 3])) * 0.5).data, [0.5, 1, 1.5])
    assert ops.layer_norm(x, x, x, eps=np.float64(1e-5)).dtype == np.float32


def test_astype_passes_the_gradient_back_in_the_first_dtype() -> None:
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    y = x.astype(np.float64) * np.array([1.5, 2.5])
    y.backward(np.array([2.0, 4.0]))
    assert y.dtype == np.float64
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [3, 10])


def test_indices_may_be_tensors_lists_and_arrays() -> None:
    x = leaf(1.0, 2.0, 3.0)
    for index in (Tensor(np.array([0, 2, 2])), [0, 2, 2], np.array([0, 2, 2])):
        x.grad = None
        x[index].backward(np.array([1.0, 10.0, 100.0]))
        np.testing.assert_array_equal(x.grad, [1, 0, 110])
    assert ops.cross_entropy(np.zeros((2, 3)), [0, 2]).item() == pytest.approx(np.log(3))


def test_a_power_of_zero_has_derivative_zero_also_at_zero() -> None:
    x = leaf(0.0, 2.0)
    (x**0).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [0, 0])


def test_vjp_records_inside_no_grad_too() -> None:
    with no_grad():
        _, pull = vjp(lambda x: x * x)(np.array([3.0]))
        np.testing.assert_array_equal(pull(np.array([1.0]))[0], [6])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_take_the_dtype_of_the_tensor(dtype: type) -> None:
    x = Tensor(np.ones(3, dtype), requires_grad=True)
    y = 2 * x + 1 - x / 3 + 0.5**1 * x**2
    y.backward(np.ones(3, dtype))
    assert y.dtype == dtype
    assert x.grad.dtype == dtype


def test_only_floating_data_can_require_a_gradient() -> None:
    with pytest.raises(TypeError, match="requires_grad needs floating-point data, got int64"):
        Tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match="already a Tensor"):
        Tensor(leaf(1.0))


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


# ── what users of NumPy and PyTorch expect of a Tensor ───────────────────────────────────────────


def gradient_of_a_pick(x: np.ndarray, index: object) -> np.ndarray:
    """How often x[index] takes each element, by backward."""
    leaf = Tensor(x, requires_grad=True)
    leaf[index].sum().backward()
    return leaf.grad


@pytest.mark.parametrize(
    "index",
    [
        ((0, 0, 1), (0, 0, 1)),
        namedtuple("Place", "row column")((0, 0, 1), (0, 0, 1)),
        ([0, 0, 1], (1, 1, 0)),
        ((0, 0),),
        ((-1, 1, 1), 0),
        [0, 0, -2],
        [[0, 0], [1, -1]],
        array.array("q", [0, 0, 1]),
        memoryview(np.array([1, 1, -1])),
        (memoryview(np.array([1, 1, -1])), slice(1, None)),
        (array.array("i", [0, 0]), None, 1),
        np.array([0, 0, 1], np.uint8),
        (np.array([1, 1]), Ellipsis),
        Tensor(np.array([0, 0])),
        ([Tensor(np.array(0)), 0], [1, 1]),
        (Tensor(np.array([1, 1])), (Tensor(np.array(0)), 0)),
        (np.int64(1), slice(None)),
        np.array(1),
        (1, -1),
        1,
        (slice(None, None, -1), 0),
        (None, 1, ..., None),
        True,
        (),
        [True, False],
        np.array([[True, False], [True, True]]),
        ([True, False], slice(None)),
    ],
    ids=lambda index: type(index).__name__,
)
def test_an_element_that_an_index_takes_twice_receives_both_gradients(index: object) -> None:
    x, counts = np.arange(4.0).reshape(2, 2), np.zeros((2, 2))
    for taken in np.ravel(Tensor(x)[index].data):
        counts.flat[int(taken)] += 1
    np.testing.assert_array_equal(gradient_of_a_pick(x, index), counts)


@pytest.mark.parametrize("dtype", [int, np.int64, np.uint8, bool, "i4"])
def test_numbers_that_are_no_floats_have_no_gradient(dtype: object) -> None:
    x = leaf(1.5, 2.5)
    y = x.astype(dtype)
    assert not y.requires_grad and y.dtype == np.dtype(dtype)
    (x * y.astype(np.float64)).sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    half = x.astype(np.float16)
    assert half.requires_grad


def test_a_tensor_is_iterated_over_and_unpacked_along_its_first_axis() -> None:
    x = leaf(1.0, 2.0)
    a, b = x
    (a + 3 * b).backward()
    assert x.grad.tolist() == [1, 3]
    assert [row.shape for row in Tensor(np.zeros((3, 2)))] == [(2,)] * 3
    assert list(Tensor(np.zeros((0, 2)))) == []
    with pytest.raises(ValueError, match="too many values"):
        a, b = leaf(1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="one of no axes cannot be iterated over"):
        iter(Tensor(np.array(1.0)))


def test_an_index_beyond_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="getitem: index 2 is out of bounds"):
        leaf(1.0, 2.0)[2]


def test_a_tensor_of_one_element_is_a_number() -> None:
    for x in (Tensor(np.array(2.5)), leaf(2.5), Tensor(np.array([[2.5]]))):
        assert float(x) == 2.5 and int(x) == 2 and bool(x) and f"{x:.3f}" == "2.500"
    assert not Tensor(np.array(0.0)) and not leaf(0.0)
    assert f"{leaf(1.0, 2.0)}" == str(leaf(1.0, 2.0))
    for convert in (float, int, bool, "{:.2f}".format):
        with pytest.raises(ValueError, match=r"expected a Tensor of one element, got shape \(2,\)"):
            convert(leaf(1.0, 2.0))
    with pytest.raises(ValueError, match=r"got shape \(0, 3\)"):
        bool(Tensor(np.zeros((0, 3))))  # not: its length is 0


def test_tensors_are_compared_by_identity_and_never_with_numbers() -> None:
    x, y = leaf(1.0), leaf(1.0)
    assert x == x and x != y
    assert x in [y, x] and y not in [x] and {x: 1, y: 2}[y] == 2
    assert x != None and x != "x" and x not in (None, "x")  # noqa: E711
    for number in (1, 1.0, np.float64(1), np.ones(1), True):
        for compare in (operator.eq, operator.ne):
            for pair in ((x, number), (number, x)):
                with pytest.raises(TypeError, match=r"compare numbers through \.data"):
                    compare(*pair)


def test_in_looks_for_a_number_among_the_elements() -> None:
    x = leaf(1.0, 2.0)
    assert 2 in x and 3 not in x and Tensor(np.array(1.0)) in x


def test_a_tensor_is_shown_as_an_array_is() -> None:
    x = Tensor(np.array([[1, 2.5], [3, 4]], np.float32), requires_grad=True)
    assert repr(x) == (
        "Tensor([[1. , 2.5],\n        [3. , 4. ]], dtype=float32, requires_grad=True)"
    )
    assert repr(Tensor(np.array([1, 2]))) == "Tensor([1, 2], dtype=int64)"


def test_other_kinds_of_arrays_become_plain_ones_or_are_refused() -> None:
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    assert (Tensor(x) * Tensor(x)).data.tolist() == [[1, 4], [9, 16]]  # not the matrix product
    assert (Tensor(np.ones((2, 2))) * x).data.tolist() == [[1, 2], [3, 4]]


def test_arrays_of_other_libraries_are_read_as_ours() -> None:
    class Foreign:
        dtype, shape = "foreign.float32", (2, 2)

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.full((2, 2), 3, np.float32)

    x = Tensor(np.ones((2, 2), np.float32), requires_grad=True)
    y = ops.linear(x + Foreign(), Foreign(), None)
    assert type(y.data) is np.ndarray and y.dtype == np.float32
    assert y.data.tolist() == [[24, 24], [24, 24]]
    y.sum().backward()
    assert x.grad.tolist() == [[6, 6], [6, 6]]
    with pytest.raises(TypeError, match="its mask would be lost"):
        Tensor(np.ma.masked_greater(np.array([1.0, 2.0]), 1))


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


def test_the_leaves_of_one_sum_have_gradients_of_their_own() -> None:
    """The vjp of + gives the same array out twice."""
    x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    ((x + y) * 3.0).sum().backward()
    assert not np.shares_memory(x.grad, y.grad)
    x.grad += 1
    assert y.grad.tolist() == [3, 3, 3]

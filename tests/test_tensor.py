"""A Tensor behaves as users of NumPy and PyTorch expect, and never drops a gradient unseen."""

from __future__ import annotations

import array
import operator
from collections import namedtuple

import numpy as np
import pytest
from leaves import leaf

from minswin import Tensor, no_grad, ops

# ── beside arrays and numbers ────────────────────────────────────────────────────────────────────


def test_arrays_on_the_left_reach_the_tensor() -> None:
    x = leaf(1.0, 2.0)
    y = np.array([3.0, 4.0]) * x + np.float64(1) - x / np.array([2.0, 2.0])
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.numpy(), [3.5, 8.0])
    np.testing.assert_array_equal(np.asarray(y), y.data)
    assert np.asarray(y, dtype=np.float32).dtype == np.float32


def test_integers_and_numbers_never_widen_or_cut_off_a_dtype() -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    y = x * np.array([1, 2, 3]) + np.float64(0.5) + np.sqrt(2) - 1
    y.backward(np.ones(3, np.float32))
    assert y.dtype == x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [1, 2, 3])
    np.testing.assert_array_equal((Tensor(np.array([1, 2, 3])) * 0.5).data, [0.5, 1, 1.5])
    assert ops.layer_norm(x, x, x, eps=np.float64(1e-5)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_take_the_dtype_of_the_tensor(dtype: type) -> None:
    x = Tensor(np.ones(3, dtype), requires_grad=True)
    y = 2 * x + 1 - x / 3 + 0.5**1 * x**2
    y.backward(np.ones(3, dtype))
    assert y.dtype == dtype
    assert x.grad.dtype == dtype


def test_a_power_of_zero_has_derivative_zero_also_at_zero() -> None:
    x = leaf(0.0, 2.0)
    (x**0).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [0, 0])


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


# ── functions and methods of NumPy ───────────────────────────────────────────────────────────────


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


# ── dtypes ───────────────────────────────────────────────────────────────────────────────────────


def test_astype_passes_the_gradient_back_in_the_first_dtype() -> None:
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    y = x.astype(np.float64) * np.array([1.5, 2.5])
    y.backward(np.array([2.0, 4.0]))
    assert y.dtype == np.float64
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [3, 10])


def test_only_floating_data_can_require_a_gradient() -> None:
    with pytest.raises(TypeError, match="requires_grad needs floating-point data, got int64"):
        Tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match="already a Tensor"):
        Tensor(leaf(1.0))


@pytest.mark.parametrize("dtype", [int, np.int64, np.uint8, bool, "i4"])
def test_numbers_that_are_no_floats_have_no_gradient(dtype: object) -> None:
    x = leaf(1.5, 2.5)
    y = x.astype(dtype)
    assert not y.requires_grad and y.dtype == np.dtype(dtype)
    (x * y.astype(np.float64)).sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    half = x.astype(np.float16)
    assert half.requires_grad


# ── indices ──────────────────────────────────────────────────────────────────────────────────────


def test_indices_may_be_tensors_lists_and_arrays() -> None:
    x = leaf(1.0, 2.0, 3.0)
    for index in (Tensor(np.array([0, 2, 2])), [0, 2, 2], np.array([0, 2, 2])):
        x.grad = None
        x[index].backward(np.array([1.0, 10.0, 100.0]))
        np.testing.assert_array_equal(x.grad, [1, 0, 110])
    assert ops.cross_entropy(np.zeros((2, 3)), [0, 2]).item() == pytest.approx(np.log(3))


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


# ── as a number, in comparisons, in print ────────────────────────────────────────────────────────


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

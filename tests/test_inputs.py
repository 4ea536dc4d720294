"""What operations take beside floating arrays: integers, bools, numbers, lists, masks, indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin import Tensor, kernels, ops
from minswin.composites import spelled_out
from minswin.layers import MSA, WindowAttention
from minswin.layers.sequences import MultiHeadAttention
from minswin.lifting.shapes import Argument, Form, arguments_of, check

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def whole(*shape: int) -> np.ndarray:
    return RNG.integers(1, 5, shape)


@pytest.fixture(params=kernels.BACKENDS, autouse=True)
def backend(request):
    with kernels.using(request.param):
        yield


# ── integers beside floating arrays ──────────────────────────────────────────────────────────────

BESIDE: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "add": ((normal(2, 3), whole(3)), {}),
    "subtract": ((whole(2, 3), normal(3)), {}),
    "multiply": ((normal(2, 3), whole(2, 3) > 2), {}),
    "divide": ((whole(2, 3), normal(3)), {}),
    "concatenate": ((normal(2, 3), whole(1, 3), whole(2, 3) > 2), {}),
    "stack": ((whole(2, 3), normal(2, 3)), {"axis": 1}),
    "matmul": ((normal(2, 3), whole(3, 4)), {}),
    "linear": ((whole(2, 3), normal(4, 3), whole(4)), {}),
    "conv2d": ((whole(1, 2, 4, 4).astype(np.uint8), normal(3, 2, 2, 2), None), {}),
    "layer_norm": ((whole(2, 3), normal(3), whole(3)), {}),
    "batch_norm": ((whole(2, 3, 2, 2), normal(3), normal(3)), {}),
    "attention": ((normal(2, 3, 4), whole(2, 3, 4), whole(2, 3, 4), None), {}),
    "giou": ((np.array([[0, 0, 2, 2]]), np.array([[0.5, 0.5, 3, 3]], np.float32)), {}),
    "cross_entropy": ((normal(2, 3), np.eye(3, dtype=int)[:2]), {}),
    "binary_cross_entropy": ((normal(2, 3), np.eye(3)[:2] > 0), {}),
    "scatter_add": ((normal(2, 3), np.array([0, 0])), {"length": 2}),
}


@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize("name", BESIDE)
def test_integers_and_bools_beside_float32_become_float32(name: str, as_tensors: bool) -> None:
    inputs, settings = BESIDE[name]
    leaves = [
        Tensor(x, requires_grad=True)
        if x is not None and x.dtype.kind == "f"
        else (Tensor(x) if as_tensors and x is not None else x)
        for x in inputs
    ]
    y = getattr(ops, name)(*leaves, **settings)
    assert y.dtype == np.float32
    keep = 1 if name == "scatter_add" else len(inputs)  # its second input is an index
    floats = [x if x is None or i >= keep else x.astype(np.float32) for i, x in enumerate(inputs)]
    np.testing.assert_array_equal(y.data, getattr(ops, name)(*floats, **settings).data)
    y.backward(np.ones_like(y.data))
    gradients = [x.grad for x in leaves if isinstance(x, Tensor) and x.requires_grad]
    assert gradients and all(g.dtype == np.float32 for g in gradients)


@pytest.mark.parametrize(
    "number",
    [2, 2.5, True, np.float64(2.5), np.float16(2.5), np.int8(2), np.bool_(True), [1, 2, 3],
     [1.5, 2, 3], np.array(2), Tensor(np.array(2)), Tensor(np.array([1, 2, 3]))],
    ids=repr,
)  # fmt: skip
def test_numbers_lists_and_integer_arrays_widen_nothing(number: Any) -> None:
    x = Tensor(normal(2, 3), requires_grad=True)
    for y in (x + number, number * x, x / number, number - x):
        assert y.dtype == np.float32
    (x * number).sum().backward()
    assert x.grad.dtype == np.float32


def test_what_is_floating_but_another_dtype_is_an_error() -> None:
    for other in (np.array(2.0), normal(3).astype(np.float64), Tensor(np.array(1.0))):
        with pytest.raises(TypeError, match="must share one floating dtype, got float32 and float"):
            ops.add(normal(3), other)
    for x in (np.ones(3, np.complex64), np.array(["a", "b", "c"]), np.array([None] * 3), 1j):
        with pytest.raises(TypeError, match="y must be numbers, got"):
            ops.add(normal(3), x)


def test_all_integers_stay_integers() -> None:
    for y in (ops.add(whole(3), 2), ops.sum(whole(3)), ops.concatenate(whole(2), whole(3))):
        assert y.dtype.kind == "i"


REAL = {
    **dict.fromkeys(["exp", "sqrt", "tanh", "sigmoid", "gelu", "gelu_tanh", "mean"], 1),
    **dict.fromkeys(["softmax", "log_softmax", "log"], 1),
    **dict.fromkeys(["divide", "giou", "binary_cross_entropy", "focal_loss"], 2),
    "attention": 3,
    "layer_norm": 3,
}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int16, np.int64])
@pytest.mark.parametrize("name", REAL)
def test_of_integers_alone_what_is_no_integer_is_computed_in_float64(
    name: str, dtype: type
) -> None:
    rows = {
        "giou": [[[0, 0, 1, 1]], [[0, 0, 0, 1]]],
        "focal_loss": [[1, 0, 1], [1, 1, 0]],
        "layer_norm": [[[1, 0, 1]], [1, 1, 1], [0, 1, 0]],
        "attention": [[[1, 0], [0, 1]]] * 3,
        "log": [[1, 1, 1]],
        "divide": [[0, 1, 1], [1, 1, 1]],
    }.get(name, [[0, 1, 1]] * REAL[name])
    numbers = [np.array(row, dtype) for row in rows]
    rest = [None] if name == "attention" else []
    y = getattr(ops, name)(*numbers, *rest)
    flags = numbers[1:] if name == "focal_loss" else []
    floats = [x.astype(np.float64) for x in numbers[: len(numbers) - len(flags)]]
    assert y.dtype == np.float64
    assert np.array_equal(y.data, getattr(ops, name)(*floats, *flags, *rest).data)


def test_integers_that_would_wrap_around_do_not() -> None:
    logits, classes = np.array([[1, 2, 3]], np.uint8), np.array([0], np.uint8)
    assert ops.softmax(logits).numpy().sum() == pytest.approx(1)
    assert ops.cross_entropy(logits, classes).item() == pytest.approx(2.4076, abs=1e-4)
    boxes = np.array([[[0, 0, 2, 2]], [[5, 5, 9, 9]]], np.uint8)
    assert -1 < ops.giou(boxes[0], boxes[1]).item() < 0
    assert ops.resize(np.array([0, 1], np.uint8).reshape(1, 1, 2, 1), size=(1, 4)).data[0, 0, 1] > 0


def test_a_setting_of_no_axes_does_not_widen_either() -> None:
    x = normal(2, 3)
    for eps in (np.float64(0.1), np.array(0.1)):
        y = ops.layer_norm(x, normal(3), normal(3), eps=eps)
        assert y.dtype == np.float32


def test_other_arrays_of_numpy_are_taken_as_plain_ones() -> None:
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    for y in (Tensor(x) * x, ops.multiply(x, x), x * Tensor(x)):
        assert y.data.tolist() == [[1, 4], [9, 16]]  # not the matrix product
    masked = np.ma.masked_greater(np.array([1.0, 2.0]), 1)
    with pytest.raises(TypeError, match="add: a masked array: its mask would be lost"):
        ops.add(masked, 1.0)


# ── masks and indices ────────────────────────────────────────────────────────────────────────────

MASK = r"must be floating-point numbers, got (bool|int64); a mask is a bias of 0 where a query may"


@pytest.mark.parametrize("dtype", [bool, int])
def test_a_mask_of_bools_or_integers_is_refused_wherever_attention_takes_one(dtype: type) -> None:
    mask, qkv = np.ones((3, 3), dtype), [normal(1, 2, 3, 4) for _ in range(3)]
    msa = MSA(4, 2, init=init(), attn_drop_rate=0.5)
    other = MultiHeadAttention(4, 2, init=init())
    x = Tensor(normal(1, 3, 4))
    calls = [
        lambda: ops.attention(*qkv, mask),
        lambda: ops.attention(*qkv, Tensor(mask)),
        lambda: spelled_out(*map(Tensor, qkv), mask),
        lambda: msa.train()(x, mask),  # dropout: attention step by step
        lambda: msa.eval()(x, mask),
        lambda: other(x, other.keys_values(x), mask),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=MASK):
            call()


def init() -> Any:
    from minswin.layers.parameters import Init

    return Init(np.random.default_rng(0), np.float32)


def test_a_mask_of_0_and_minus_infinity_does_what_the_message_says() -> None:
    q, k, v = (normal(2, 3, 4) for _ in range(3))
    allowed = np.array([[True, False, True]] * 3)
    y = ops.attention(q, k, v, np.where(allowed, 0, -np.inf).astype(q.dtype))
    few = ops.attention(q, k[:, [0, 2]], v[:, [0, 2]], None)
    np.testing.assert_allclose(y.data, few.data, rtol=1e-5, atol=1e-6)


def test_indices_and_flags_must_be_what_they_are() -> None:
    for call, message in [
        (lambda: ops.take(normal(3, 2), [0.5]), "rows must be integers, got float64"),
        (lambda: ops.take(normal(3, 2), np.array([True])), "rows must be integers, got bool"),
        (lambda: ops.scatter_add(normal(2), normal(2), length=3), "rows must be integers, got flo"),
        (lambda: ops.dropout(normal(2), whole(2), rate=0.5), "keep must be bool, got int64"),
        (lambda: ops.focal_loss(normal(2), normal(2)), "targets must be bool or integers, got flo"),
        (lambda: ops.cross_entropy(normal(2, 3), normal(2)), "targets must be integers, got float"),
    ]:
        with pytest.raises(TypeError, match=message):
            call()
    assert ops.take(normal(3, 2), [2, 0]).shape == (2, 2)
    assert ops.cross_entropy(normal(2, 3), [2, 0]).shape == ()


def test_windows_take_no_mask_of_the_user() -> None:
    layer = WindowAttention(4, 2, (2, 2), init=init())
    with pytest.raises(TypeError):
        layer(Tensor(normal(1, 4, 4, 4)), np.ones((4, 4), bool))


# ── the shape line ───────────────────────────────────────────────────────────────────────────────


def test_a_docstring_is_read_as_it_is_written() -> None:
    def function(x, weight, bias, rows, other):
        """Do it.

        x (*X, N, 4)   weight, bias (N,) or None    and so on
        rows (B,) integers or (B, N) flags   gives (B, N)
        """

    assert arguments_of(function) == (
        Argument("x", (Form(("*X", "N", "4"), "numbers", False),), False, 0),
        Argument("weight", (Form(("N",), "numbers", False),), True, 1),
        Argument("bias", (Form(("N",), "numbers", False),), True, 2),
        Argument(
            "rows",
            (Form(("B",), "integers", False), Form(("B", "N"), "flags", False)),
            False,
            3,
        ),
        Argument("other"),
    )


def lines(text: str) -> Any:
    def function(x, y, z=None): ...

    function.__doc__ = text
    return arguments_of(function)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("x (..., K)   y (M, K)", [(2, 3), (4, 3)], None),
        ("x (..., K)   y (M, K)", [(3,), (4, 3)], None),
        ("x (..., K)   y (M, K)", [(), (4, 3)], r"x must be (..., K), got ()"),
        ("x (..., K)   y (M, K)", [(2, 3), (4, 2)], r"y must be (M, K=3), got (4, 2)"),
        ("x (..., K)   y (M, K)", [(2, 3), None], r"y must be (M, K=3), got None"),
        ("x (..., K)   y (M, K) or None", [(2, 3), None], None),
        ("x (..., N, d)   y (..., M, d)", [(5, 2, 3), (5, 4, 3)], None),
        ("x (..., N, d)   y (..., M, d)", [(5, 2, 3), (4, 3)], "y must be (5, M, d=3), got (4,"),
        ("x (*X, N)   y (*Y, N)", [(5, 2, 3), (3,)], None),
        ("x (*X, N)   y (*Y, N)", [(5, 2, 3), (2,)], r"y must be (*Y, N=3), got (2,)"),
        ("x (K, K)", [(2, 3)], r"x must be (K, K), got (2, 3)"),
        ("x (..., 4)", [(7, 4)], None),
        ("x (..., 4)", [(7, 3)], r"x must be (..., 4), got (7, 3)"),
        ("x (..., N)   y -> (..., N)", [(2, 3), (1, 3)], None),
        ("x (..., N)   y -> (..., N)", [(2, 3), (5, 2, 3)], "y must broadcast to (2, N=3), got"),
        ("x (..., N)   y -> (..., N)", [(2, 3), (2, 1)], None),
        ("y (*P) integers   x (*P, *R)", [(2, 3), (2,)], None),
        ("y (*P) integers   x (*P, *R)", [(2, 3), (3,)], r"x must be (3, *R), got (2, 3)"),
        ("x (B, K)   y (B,) integers or (B, K)", [(2, 3), (2, 3)], None),
        ("x (B, K)   y (B,) integers or (B, K)", [(2, 3), (2, 4)],
         r"y must be (B=2,) integers or (B=2, K=3), got (2, 4)"),
    ],
)  # fmt: skip
def test_letters_are_one_size_wherever_they_stand(text: str, shapes: Any, message: Any) -> None:
    arrays = [None if shape is None else np.empty(shape) for shape in shapes]
    if message is None:
        check("f", lines(text), arrays, {})
        return
    with pytest.raises(ValueError) as error:
        check("f", lines(text), arrays, {"y": "turn it round"})
    assert f"f: {message}" in str(error.value)
    assert str(error.value).endswith("; turn it round") == message.startswith("y")


@pytest.mark.parametrize("wrap", [list, tuple, lambda xs: [[1.0], xs]], ids=["list", "tuple", "in"])
@pytest.mark.parametrize("take", [ops.stack, ops.concatenate, ops.exp, Tensor])
def test_a_list_of_tensors_would_lose_their_gradients_silently(take: Any, wrap: Any) -> None:
    parts = wrap([Tensor(normal(1), requires_grad=True), Tensor(normal(1), requires_grad=True)])
    with pytest.raises(TypeError, match=r"a list of Tensors has no gradient; .*\*tensors"):
        take(parts)


def test_a_list_of_tensors_without_gradients_is_data() -> None:
    assert ops.concatenate([Tensor(normal(2)), normal(2)]).shape == (2, 2)

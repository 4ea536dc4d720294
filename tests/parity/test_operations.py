"""Single operations: value and every gradient equal PyTorch's, in float64, to 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from minswin import kernels, ops
from minswin.autograd import Tensor

from .compare import error
from .peers import tensor, torch

pytestmark = pytest.mark.parity
F = torch.nn.functional
TOLERANCE = 1e-12


class Pair(NamedTuple):
    """One operation in both libraries, on the same arrays; floating ones are differentiated."""

    name: str
    ours: Callable[..., Tensor]
    theirs: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]


def torch_unfold(x: Any) -> Any:
    columns = F.unfold(x, (3, 2), stride=(2, 1), padding=(1, 0))  # (B, C·kh·kw, H'·W')
    B, K, _ = columns.shape
    return columns.transpose(1, 2).reshape(B, 4, 5, K)  # of a 7×6 map


def masked(rng: np.random.Generator, value: float) -> np.ndarray:
    """(4, 1, 7, 5): `value` for about half of the pairs, and one key that every query may see."""
    mask = np.where(rng.random((4, 1, 7, 5)) < 0.5, value, 0.0)
    mask[..., 2] = 0.0
    return mask


def convolutions(rng: np.random.Generator) -> list[Pair]:
    x, w, b = (rng.standard_normal(s) for s in [(2, 3, 9, 8), (5, 3, 4, 2), (5,)])
    patches = rng.standard_normal((4, 3, 2, 3))
    return [
        Pair("conv2d", ops.conv2d, F.conv2d, (x, w, b)),
        Pair(
            "conv2d, stride and padding",
            lambda *a: ops.conv2d(*a, stride=(2, 3), padding=(1, 2)),
            lambda *a: F.conv2d(*a, stride=(2, 3), padding=(1, 2)),
            (x, w, b),
        ),
        Pair(
            "conv2d, patches, no bias",
            lambda x, w: ops.conv2d(x, w, None, stride=(2, 3)),
            lambda x, w: F.conv2d(x, w, stride=(2, 3)),
            (x, patches),
        ),
        Pair(
            "unfold",
            lambda x: ops.unfold(x, kernel=(3, 2), stride=(2, 1), padding=(1, 0)),
            torch_unfold,
            (rng.standard_normal((2, 3, 7, 6)),),
        ),
    ]


def rows(rng: np.random.Generator) -> list[Pair]:
    x, w, b = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal(7), rng.standard_normal(7)
    wide = 4 * rng.standard_normal((6, 11))
    hidden = np.where(rng.random((6, 11)) < 0.3, -np.inf, wide)
    hidden[:, 0] = 1.0
    matrix = rng.standard_normal((4, 7))
    return [
        Pair("linear", ops.linear, F.linear, (x, matrix, rng.standard_normal(4))),
        Pair("gelu", ops.gelu, F.gelu, (wide,)),
        Pair("gelu, tanh", ops.gelu_tanh, lambda x: F.gelu(x, approximate="tanh"), (wide,)),
        Pair(
            "layer_norm",
            lambda x, w, b: ops.layer_norm(x, w, b, eps=1e-5),
            lambda x, w, b: F.layer_norm(x, (7,), w, b, eps=1e-5),
            (3 + 2 * x, w, b),
        ),
        Pair(
            "layer_norm, eps that matters",
            lambda x, w, b: ops.layer_norm(x, w, b, eps=1e-2),
            lambda x, w, b: F.layer_norm(x, (7,), w, b, eps=1e-2),
            (0.1 * x, w, b),
        ),
        Pair("softmax", ops.softmax, lambda x: x.softmax(-1), (wide,)),
        Pair("softmax, axis 1", lambda x: ops.softmax(x, axis=1), lambda x: x.softmax(1), (x,)),
        Pair("softmax, with −∞", ops.softmax, lambda x: x.softmax(-1), (hidden,)),
        Pair("log_softmax", ops.log_softmax, lambda x: x.log_softmax(-1), (wide,)),
        Pair("log_softmax, far out", ops.log_softmax, lambda x: x.log_softmax(-1), (200 * wide,)),
    ]


def attentions(rng: np.random.Generator) -> list[Pair]:
    q, k, v = (
        rng.standard_normal(shape) for shape in [(2, 4, 3, 7, 6), (2, 4, 3, 5, 6), (2, 4, 3, 5, 2)]
    )
    bias = rng.standard_normal((3, 7, 5))
    attend = F.scaled_dot_product_attention
    pairs = [
        Pair("attention", lambda *a: ops.attention(*a, None), attend, (q, k, v)),
        Pair("attention, bias", ops.attention, lambda *a: attend(*a[:3], a[3]), (q, k, v, bias)),
    ]
    for value in (-100.0, -np.inf):
        mask = masked(rng, value)
        pairs.append(
            Pair(
                f"attention, bias and a mask of {value}",
                lambda q, k, v, b, mask=mask: ops.attention(q, k, v, b + mask),
                lambda q, k, v, b, mask=mask: attend(q, k, v, b + tensor(mask)),
                (q, k, v, bias),
            )
        )
    return pairs


def losses(rng: np.random.Generator) -> list[Pair]:
    logits, labels = 3 * rng.standard_normal((5, 7)), rng.integers(0, 7, 5)
    probabilities = rng.dirichlet(np.ones(7), 5)  # differentiated too

    def hard(smoothing: float) -> Pair:
        return Pair(
            f"cross_entropy, hard, smoothing {smoothing}",
            lambda x, t: ops.cross_entropy(x, t, smoothing=smoothing),
            lambda x, t: F.cross_entropy(x, t, label_smoothing=smoothing),
            (logits, labels),
        )

    def soft(smoothing: float) -> Pair:
        return hard(smoothing)._replace(
            name=f"cross_entropy, soft, smoothing {smoothing}", arrays=(logits, probabilities)
        )

    return [hard(0.0), hard(0.1), soft(0.0), soft(0.3)]


def moves(rng: np.random.Generator) -> list[Pair]:
    x, table = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((9, 4))
    indices = rng.integers(0, 6, (7, 5))  # rows repeat, and the last ones are never taken
    return [
        Pair(
            "roll",
            lambda x: ops.roll(x, shift=(-2, 1)),
            lambda x: torch.roll(x, (-2, 1), dims=(1, 2)),
            (x,),
        ),
        Pair(
            "roll, more than once round",
            lambda x: ops.roll(x, shift=(7, -9), axis=(3, 1)),
            lambda x: torch.roll(x, (7, -9), dims=(3, 1)),
            (x,),
        ),
        Pair("embedding", ops.take, lambda t, i: F.embedding(i, t), (table, indices)),
    ]


MAKERS = (convolutions, rows, attentions, losses, moves)
PAIRS = [pair for make in MAKERS for pair in make(np.random.default_rng(5))]


def our_run(pair: Pair, g: np.ndarray) -> list[np.ndarray]:
    """The value, then the gradient of ⟨g, value⟩ by every floating array."""
    inputs = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in pair.arrays]
    value = pair.ours(*inputs)
    value.backward(g.reshape(value.shape))
    return [value.numpy(), *(x.grad for x in inputs if x.requires_grad)]


def their_run(pair: Pair, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """A random cotangent g, and the same list by PyTorch."""
    inputs = [tensor(x, requires_grad=x.dtype.kind == "f") for x in pair.arrays]
    value = pair.theirs(*inputs)
    g = rng.standard_normal(tuple(value.shape))
    value.backward(tensor(g))
    gradients = [x.grad.numpy() for x in inputs if x.requires_grad]
    return np.asarray(g), [value.detach().numpy(), *gradients]


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_value_and_gradients_equal_those_of_torch(pair, backend):
    g, theirs = their_run(pair, np.random.default_rng(6))
    with kernels.using(backend):
        ours = our_run(pair, g)
    assert len(ours) == len(theirs)
    for position, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        what = "value" if position == 0 else f"gradient of argument {position - 1}"
        assert error(np.asarray(mine), other) < TOLERANCE, what

"""Blocks that are computed again in backward: the same bits, and less memory in between."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from tiny_models import batch, differentiate, tiny_model

from minswin import Tensor, cli, data_parallel, kernels, no_grad
from minswin.data.shapes import shapes
from minswin.layers import Dropout, Layer, Linear, recompute
from minswin.training import recipe
from minswin.training.inputs import new_model

RANDOM = {"rate": 0.6, "drop_rate": 0.3, "attn_drop_rate": 0.2}
FAMILIES = ("swin_shapes", "vit_cifar")


class Block(Layer):
    def __init__(self, rate=0.5):
        self.rng = np.random.default_rng(5)
        self.linear = Linear(4, 4, rng=self.rng, dtype=np.float64)
        self.drop = Dropout(rate, rng=self.rng)

    def __call__(self, x, scale=1.0):
        return x + self.drop(self.linear(x)) * scale


def numbers(*shape):
    return np.random.default_rng(6).standard_normal(shape)


def pull(layer, y, x, g):
    """y.backward(g), and what arrives: gradients of x and of the layer's weights."""
    y.backward(g)
    return [x.grad, *(p.grad for p in layer.parameters())]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# ── the same bits ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_that_recomputes_gives_the_same_bits(name, dtype, threads):
    x, targets = batch(7, dtype)
    results = []
    for forget in (False, True):
        model = tiny_model(name, dtype=dtype, recompute=forget, **RANDOM)
        split = data_parallel(model, threads)
        steps = [differentiate(model, split, x, targets) for _ in range(2)]
        results.append((steps, model.rng.bit_generator.state))
    (plain, state), (again, other_state) = results
    assert state == other_state
    for one, other in zip(plain, again, strict=True):
        assert one[0] == other[0] and np.array_equal(one[1], other[1])
        assert [n for n, g in one[2].items() if not np.array_equal(g, other[2][n])] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_of_a_model_is_run_twice(name, monkeypatch):
    model, (x, targets) = tiny_model(name, recompute=True), batch(3)
    blocks = [layer for layer in model.layers_within() if type(layer).__name__.endswith("Block")]
    kind, calls = type(blocks[0]), []
    forward = kind.__call__

    def counting(block, *inputs):
        calls.append(blocks.index(block))
        return forward(block, *inputs)

    monkeypatch.setattr(kind, "__call__", counting)
    differentiate(model, model, x, targets)
    assert calls == [0, 1, 1, 0]
    calls.clear()
    with no_grad():
        model(x)
    assert calls == [0, 1]


def test_what_has_changed_since_forward_does_not_matter():
    results = []
    for forward in (lambda layer, x: layer(x), recompute):
        layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
        y = forward(layer, x)
        layer.eval()
        layer.linear.weight.data = numbers(4, 4)
        layer.rng.random(17)
        results.append([y.data, *pull(layer, y, x, numbers(3, 4))])
        assert not layer.training and np.array_equal(layer.linear.weight.data, numbers(4, 4))
    assert same(*results)


def test_backward_leaves_the_generator_where_it_stands():
    layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
    before = layer.rng.bit_generator.state
    y = recompute(layer, x)
    assert layer.rng.bit_generator.state != before
    layer.rng.random(17)  # somebody else draws meanwhile
    state = layer.rng.bit_generator.state
    y.backward(numbers(3, 4))
    assert layer.rng.bit_generator.state == state


def test_two_calls_in_threads_keep_their_own_random_numbers():
    x, results = batch(7)[0], []
    gs = np.random.default_rng(7).standard_normal((2, 7, 5))
    for forget in (False, True):
        model = tiny_model(recompute=forget, **RANDOM)
        split = data_parallel(model, 2)
        first, second = split(x), split(x[:3])  # other parts of another batch
        first.backward(gs[0])
        second.backward(gs[1, :3])
        results.append([first.data, second.data, *(p.grad for p in model.parameters())])
    assert same(*results)


def test_the_second_run_uses_the_kernels_of_the_first(monkeypatch):
    layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
    with kernels.using("reference"):
        y = recompute(layer, x)
    seen, choose = set(), kernels.fast

    def watching(name, array):
        seen.add(kernels.chosen(array))
        return choose(name, array)

    monkeypatch.setattr(kernels, "fast", watching)
    with kernels.using("numba"):
        y.backward(numbers(3, 4))
    assert seen == {"reference"}


# ── gradients ────────────────────────────────────────────────────────────────────────────────────


def test_gradients_add_up_to_those_that_are_there_already():
    results = []
    for forward in (lambda layer, x: layer(x), recompute):
        layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
        for _ in range(3):
            y = forward(layer, forward(layer, x))
            held = y * 2.0
            results.append(pull(layer, held, x, numbers(3, 4)))
    for plain, again in zip(results[:3], results[3:], strict=True):
        assert same(plain, again)
    assert not np.array_equal(results[0][1], results[1][1])


def test_an_error_in_the_second_run_leaves_the_layer_as_it_was():
    layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
    y = recompute(layer, x)
    layer.linear.weight.grad = mark = numbers(4, 4)
    layer.eval()
    state, drop = layer.rng.bit_generator.state, layer.drop
    layer.drop = None
    with pytest.raises(TypeError):
        y.backward(numbers(3, 4))
    layer.drop = drop
    assert layer.linear.weight.grad is mark and not layer.training
    assert layer.rng.bit_generator.state == state


def test_an_input_that_requires_no_gradient_gets_none():
    layer, x = Block(), Tensor(numbers(3, 4))
    y = recompute(layer, x)
    start, gradients = layer.rng, pull(layer, y, x, numbers(3, 4))
    assert gradients[0] is None and start is layer.rng
    plain = Block()
    want = pull(plain, plain(x), x, numbers(3, 4))
    assert same(gradients[1:], want[1:])
    for p in layer.parameters():
        p.requires_grad = False
    assert not recompute(layer, x).requires_grad


def test_frozen_weights_get_no_gradient():
    layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
    layer.linear.bias.requires_grad = False
    gradients = pull(layer, recompute(layer, x), x, numbers(3, 4))
    assert gradients[2] is None and gradients[1] is not None


def test_a_second_backward_is_refused():
    x = Tensor(numbers(3, 4), requires_grad=True)
    y = recompute(Block(), x)
    y.backward(numbers(3, 4))
    with pytest.raises(ValueError, match=r"'recomputed' was already used"):
        y.backward(numbers(3, 4))


def test_settings_reach_both_runs():
    results = []
    for forward in (lambda layer, *inputs: layer(*inputs), recompute):
        layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
        y = forward(layer, x, 3.0)
        results.append([y.data, *pull(layer, y, x, numbers(3, 4))])
    assert same(*results)


def test_nothing_is_recorded_in_no_grad():
    layer, x = Block(), Tensor(numbers(3, 4), requires_grad=True)
    with no_grad():
        assert not recompute(layer, x).requires_grad


@pytest.mark.parametrize("arguments", [[], ["--recompute"]])
def test_the_option_of_the_command_reaches_the_model(arguments):
    options = cli._parser().parse_args(["train", *arguments])
    given = {"recompute": options.recompute} if options.recompute is not None else {}
    model = new_model(recipe("shapes", **given), shapes(2, seed=1))
    assert [stage.forget for stage in model.layers] == [bool(arguments)] * 2
    assert ("recompute" in model.settings) == bool(arguments)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


def bytes_kept(model, x):
    """Bytes that stand between forward and backward; the first call makes what is made once."""
    model(x)
    gc.collect()  # or else when that happens next depends on the tests before
    tracemalloc.start()
    try:
        y = model(x)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        assert y.requires_grad
        return kept
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "depth"), [("swin_shapes", {"depths": (6,)}), ("vit_cifar", {"depth": 6})]
)
def test_only_the_inputs_of_blocks_are_kept_until_backward(name, depth):
    x = batch(64)[0]
    plain = bytes_kept(tiny_model(name, **depth), x)
    assert bytes_kept(tiny_model(name, recompute=True, **depth), x) < 0.3 * plain

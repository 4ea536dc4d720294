"""A batch split over threads gives the numbers of the whole batch, random ones included."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import assert_close, batch, differentiate, tiny_model

from minswin import Tensor, data_parallel
from minswin.layers import Layer, Linear, Parameter


def assert_same_bits(one, other):
    assert one[0] == other[0] and np.array_equal(one[1], other[1])
    assert [n for n, g in one[2].items() if not np.array_equal(g, other[2][n])] == []


def test_a_model_without_weights_is_split_too():
    class Square(Layer):
        def __call__(self, x):
            return x * x

    rng = np.random.default_rng(3)
    x, g = Tensor(rng.standard_normal((5, 3)), requires_grad=True), rng.standard_normal((5, 3))
    data_parallel(Square(), 2)(x).backward(g)
    assert np.array_equal(x.grad, 2 * x.numpy() * g)


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_a_split_batch_has_the_value_and_the_gradients_of_the_whole(threads):
    model, (x, targets) = tiny_model(), batch(7)
    split = data_parallel(model, threads)
    for _ in range(2):  # the second time the threads find what the first has left
        assert_close(
            differentiate(model, split, x, targets), differentiate(model, model, x, targets)
        )
    x, targets = x[:2], targets[:2]  # fewer images than threads
    assert_close(differentiate(model, split, x, targets), differentiate(model, model, x, targets))


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_images_that_require_a_gradient_get_that_of_the_whole_batch(threads):
    model, (x, targets) = tiny_model(), batch(7)
    whole, split = Tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    want = differentiate(model, model, whole, targets)
    assert_close(differentiate(model, data_parallel(model, threads), split, targets), want)
    assert split.grad.shape == x.shape and np.abs(split.grad - whole.grad).max() < 1e-12


def test_the_result_is_an_ordinary_tensor_in_a_larger_graph():
    model, (x, _) = tiny_model(), batch(5)
    split = data_parallel(model, 2)
    other = Parameter(np.random.default_rng(6).standard_normal((5, 5)))
    grads = []
    for forward in (model, split):
        model.zero_grad()
        other.grad = None
        ((forward(x) * other) @ other).sum().backward()
        grads.append([other.grad, *(p.grad for p in model.parameters())])
    assert all(np.abs(a - b).max() < 1e-11 for a, b in zip(*grads, strict=True))


def test_gradients_add_up_to_those_that_are_there_already():
    model, (x, _) = tiny_model(), batch(5)
    g = np.random.default_rng(7).standard_normal((5, 5))
    results = []
    for forward in (model, data_parallel(model, 2)):
        for p in model.parameters():
            p.grad = np.full(p.shape, 0.5)
        for _ in range(2):
            forward(x).backward(g)
        results.append([p.grad for p in model.parameters()])
    assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(*results, strict=True))


def test_two_calls_may_come_before_the_backward_of_the_first():
    model, (x, _) = tiny_model(), batch(7)
    gs = np.random.default_rng(7).standard_normal((2, 4, 5))
    results = []
    for forward in (model, data_parallel(model, 2)):
        model.zero_grad()
        first, second = forward(x[:4]), forward(x[3:])
        first.backward(gs[0])
        kept = [p.grad.copy() for p in model.parameters()]
        second.backward(gs[1])
        results.append([*kept, *(p.grad for p in model.parameters())])
    assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(*results, strict=True))


def test_a_second_backward_is_refused_and_a_second_call_is_not():
    model, (x, _) = tiny_model(), batch(4)
    split = data_parallel(model, 2)
    y, g = split(x), np.random.default_rng(8).standard_normal((4, 5))
    y.backward(g)
    with pytest.raises(ValueError, match="already used"):
        y.backward(g)
    split(x).backward(g)


def test_a_weight_in_two_places_gets_its_gradient_once():
    class Twice(Layer):
        def __init__(self):
            self.one = self.other = Linear(3, 3, rng=np.random.default_rng(1), dtype=np.float64)

        def __call__(self, x):
            x = x if isinstance(x, Tensor) else Tensor(x)
            return self.other(self.one(x))

    model, grads = Twice(), []
    x, g = np.random.default_rng(2).standard_normal((2, 4, 3))
    for forward in (model, data_parallel(model, 2)):
        model.zero_grad()
        forward(x).backward(g)
        grads.append(model.one.weight.grad)
    assert np.abs(grads[0] - grads[1]).max() < 1e-14


def test_an_empty_batch_gives_no_logits():
    model = tiny_model()
    y = data_parallel(model, 3)(batch(0)[0])
    assert y.shape == model(batch(0)[0]).shape == (0, 5)


# ── randomness ───────────────────────────────────────────────────────────────────────────────────

RANDOM = {"rate": 0.6, "drop_rate": 0.3, "attn_drop_rate": 0.2}


@pytest.mark.parametrize("name", ["swin_shapes", "vit_cifar"])
@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_dropout_does_not_depend_on_the_number_of_threads(name, threads):
    model, (x, targets) = tiny_model(name, **RANDOM), batch(7)
    start = model.rng.bit_generator.state
    want = [differentiate(model, model, x, targets) for _ in range(2)]
    end = model.rng.bit_generator.state
    model.rng.bit_generator.state = start
    split = data_parallel(model, threads)
    for expected in want:
        assert_close(differentiate(model, split, x, targets), expected)
    assert model.rng.bit_generator.state == end != start
    assert np.abs(want[0][1] - want[1][1]).max() > 1e-3  # other masks in the second step


def test_a_fixed_number_of_threads_gives_the_same_bits():
    model, (x, targets) = tiny_model(dtype=np.float32, **RANDOM), batch(16, np.float32)
    start, results = model.rng.bit_generator.state, []
    for _ in range(3):
        model.rng.bit_generator.state = start
        results.append(differentiate(model, data_parallel(model, 3), x, targets))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


def test_random_numbers_that_do_not_belong_to_samples_are_refused():
    class Noisy(Layer):
        def __init__(self):
            self.rng = np.random.default_rng(1)

        def __call__(self, x):
            return Tensor(x + self.rng.random((3,)))

    model = Noisy()
    assert data_parallel(model, 1)(np.zeros((8, 3))).shape == (8, 3)
    message = r"first axis of random numbers must be that of the batch, of 4 samples .*threads=1"
    with pytest.raises(ValueError, match=message):
        data_parallel(model, 2)(np.zeros((8, 3)))


# ── the model changes ────────────────────────────────────────────────────────────────────────────


def test_weights_that_are_updated_loaded_or_replaced_reach_the_threads():
    model, (x, _) = tiny_model(), batch(5)
    split = data_parallel(model, 2)
    rng = np.random.default_rng(9)

    def update():
        model.head.weight.data += 1.0

    def load():
        model.load_state_dict(
            {n: rng.standard_normal(a.shape) for n, a in model.state_dict().items()}
        )

    def replace():
        model.head.weight.data = rng.standard_normal(model.head.weight.shape)

    for change in (update, load, replace):
        before = model(x).data
        change()
        assert np.abs(model(x).data - before).max() > 1e-3
        assert np.abs(split(x).data - model(x).data).max() < 1e-11


def test_a_model_that_gained_a_layer_must_be_split_again():
    model, (x, _) = tiny_model(), batch(4)
    split = data_parallel(model, 2)
    model.extra = Linear(2, 3, rng=model.rng)
    with pytest.raises(
        ValueError, match=r"gained or lost layers .*call data_parallel\(model\) again"
    ):
        split(x)


def test_the_threads_share_the_weights_and_nothing_else():
    model = tiny_model()
    model(batch(4)[0]).sum().backward()
    for twin in data_parallel(model, 2)._twins:
        pairs = list(zip(model.parameters(), twin.model.parameters(), strict=True))
        assert all(p is not q and p.data is q.data and q.grad is None for p, q in pairs)
        assert twin.model.rng is not model.rng
        own = [layer.rng for layer in twin.model.layers_within() if hasattr(layer, "rng")]
        assert all(rng is twin.model.rng for rng in own) and len(own) > 3

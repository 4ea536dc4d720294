"""Steps around operations nest in any order; what is watched is seen once, and changes nothing."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from threading import Barrier

import numpy as np
import pytest
from limits import HANG
from tiny_models import batch, tiny_model

from minswin import Tensor, autograd, create_model, data_parallel, kernels, no_grad, ops
from minswin.around import around, surroundings
from minswin.bench.breakdown import Ledger
from minswin.bench.breakdown import watching as timing
from minswin.crosscheck.trace import record_pass
from minswin.layers import Layer, Linear, recompute
from minswin.look.attention import attention_maps
from minswin.look.features import pooled_features
from minswin.training.precision import computing
from minswin.watch import is_watched, watching


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


# ── around ───────────────────────────────────────────────────────────────────────────────────────


def test_the_innermost_step_comes_first_and_all_of_them_take_part():
    order = []

    def named(name):
        def step(go, definition, inputs, settings):
            order.append(name)
            result = go(definition, inputs, settings)
            order.append(name.upper())
            return result

        return step

    with around(named("a")), around(named("b")):
        ops.exp(1.0)
    assert order == ["b", "a", "A", "B"]
    ops.exp(1.0)
    assert len(order) == 4


def test_an_error_inside_the_block_ends_it():
    def step(go, *operation):
        raise ZeroDivisionError("planned")

    with pytest.raises(ValueError, match="planned"), around(step):
        ops.exp(1.0)
    assert surroundings() is None
    assert ops.exp(0.0).item() == 1


# ── float16 and watching, in either order ────────────────────────────────────────────────────────


def operations_and_gradients(model, x, labels, *blocks):
    """Which operations a watcher among `blocks` saw, and the numbers of a training step."""
    seen = []
    made = {
        "float16": lambda: computing("float16", "cpu"),
        "watch": lambda: watching(lambda operation: seen.append(operation.name), model),
    }
    model.zero_grad()
    with kernels.using("reference"), ExitStack() as stack:
        for block in blocks:
            stack.enter_context(made[block]())
        loss = ops.cross_entropy(model(x), labels)
        loss.backward()
    return seen, [loss.data, *(p.grad for p in model.parameters())]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_float16_around_a_watch_and_a_watch_around_float16_are_the_same_to_the_bit():
    narrow = {"embed_dim": 8, "num_heads": (1, 2, 4)}
    model = create_model("swin_cifar_small", **narrow, rng=np.random.default_rng(0)).eval()
    step = model, normal(2, 3, 32, 32), np.array([1, 2])
    _, exact = operations_and_gradients(*step)
    names, watched = operations_and_gradients(*step, "watch")
    _, short = operations_and_gradients(*step, "float16")
    assert len(names) == 145 and names.count("attention") == 6
    assert same(watched, exact) and not same(short, exact)
    for blocks in (("float16", "watch"), ("watch", "float16")):
        seen, numbers = operations_and_gradients(*step, *blocks)
        assert seen == names and same(numbers, short)


def test_looks_inside_float16_see_the_model_in_float16():
    model, image = tiny_model(dtype=np.float32), batch(1, np.float32)[0]
    maps, pooled = attention_maps(model, image[0]), pooled_features(model, image)
    with computing("float16", "cpu"):
        short_maps, short_pooled = attention_maps(model, image[0]), pooled_features(model, image)
        x = Tensor(image)
        with no_grad():
            head = model.head(Tensor(short_pooled)).data
            assert np.array_equal(head, model(x).data)
    assert len(short_maps) == len(maps) == 2
    assert not np.array_equal(short_pooled, pooled)
    assert np.allclose(short_pooled, pooled, atol=0.05)


def test_a_ledger_inside_float16_leaves_the_numbers_short():
    x, weight = normal(4, 5), normal(3, 5)
    with computing("float16", "cpu"):
        short = ops.linear(x, weight, None).data
        with timing(Ledger()) as ledger:
            assert np.array_equal(ops.linear(x, weight, None).data, short)
    assert [entry.operation for entry in ledger.entries] == ["linear"]
    assert not np.array_equal(short, ops.linear(x, weight, None).data)


def test_a_split_batch_is_computed_in_float16_too():
    model, (x, labels) = tiny_model(dtype=np.float32), batch(4, np.float32)
    results = []
    for split in (model, data_parallel(model, 2)):
        model.zero_grad()
        with computing("float16", "cpu"):
            loss = ops.cross_entropy(split(x), labels)
            loss.backward()
        results.append([split(x).data, loss.data, *(p.grad for p in model.parameters())])
    assert np.array_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][1], ops.cross_entropy(model(x), labels).data)


def test_a_recomputed_block_is_as_short_as_it_was_in_forward():
    """Backward stands outside of the block: the second forward must be the first all the same."""
    gradients = []
    for forget in (False, True):
        model = tiny_model(dtype=np.float32, recompute=forget)
        x, labels = batch(3, np.float32)
        with computing("float16", "cpu"):
            loss = ops.cross_entropy(model(x), labels)
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert same(*gradients)


# ── what is seen ─────────────────────────────────────────────────────────────────────────────────


class Twice(Layer):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.steps = [Linear(3, 3, rng=rng), Linear(3, 3, rng=rng)]

    def __call__(self, x):
        return ops.relu(self.steps[1](self.steps[0](x)))


def test_an_operation_is_seen_with_layer_inputs_settings_value_and_cotangent():
    model, x, seen, cotangents = Twice(), normal(2, 3), [], {}
    with watching(seen.append, model), kernels.using("reference"):
        y = model(x).sum(axis=1)
        for operation in seen:
            operation.on_backward(lambda g, name=operation.name: cotangents.update({name: g}))
        y.backward(np.array([1, 2], np.float32))
    assert [(o.name, o.layer) for o in seen] == [
        ("linear", "steps.0"),
        ("linear", "steps.1"),
        ("relu", ""),
        ("sum", None),
    ]
    assert seen[0].arrays[0] is x and seen[0].inputs[1] is model.steps[0].weight
    assert seen[1].arrays[0] is seen[0].value
    assert seen[3].settings == {"axis": 1, "keepdims": False}
    assert cotangents["sum"].tolist() == [1, 2] and cotangents["relu"].tolist() == [
        [1] * 3,
        [2] * 3,
    ]


def test_a_definition_that_runs_operations_is_left_out_for_them():
    seen = []
    square = autograd.vjp(lambda x: x * x)
    with watching(lambda operation: seen.append(operation.name)):
        autograd.apply(square, np.ones(3))
        data_parallel(Twice(), 2)(normal(4, 3))  # in two threads
    assert sorted(seen) == ["linear"] * 4 + ["multiply"] + ["relu"] * 2


def test_a_definition_is_left_out_also_where_what_it_tried_ended_in_an_error():
    seen = []

    def fails(x):
        ops.relu(Tensor(x))
        raise ArithmeticError

    def tries(x):
        with suppress(ArithmeticError):
            autograd.apply(fails, x)
        return x, lambda g: (g,)

    with watching(lambda operation: seen.append(operation.name)):
        autograd.apply(tries, np.ones(3))
    assert seen == ["relu"]


def test_operations_that_run_at_the_same_time_are_all_seen():
    both_run, seen = Barrier(2, timeout=HANG), []

    def waiting(x):
        both_run.wait()
        return x, lambda g: (g,)

    class Waiting(Layer):
        def __call__(self, x):
            return autograd.apply(waiting, x)

    with watching(lambda operation: seen.append(operation.name)):
        data_parallel(Waiting(), 2)(normal(2, 3))
    assert seen == ["waiting"] * 2


def test_a_layer_that_is_computed_again_is_seen_once_and_its_cotangents_too():
    traces = []
    for forget in (False, True):
        model, (x, labels) = tiny_model(recompute=forget), batch(2)
        with kernels.using("reference"):
            traces.append(record_pass(model, x, labels).steps)
    plain, again = traces
    assert list(plain) == list(again) and len(plain) > 80
    for name, step in plain.items():
        assert np.array_equal(step.value, again[name].value), name
        assert (step.cotangent is None) == (again[name].cotangent is None), name
        assert step.cotangent is None or np.array_equal(step.cotangent, again[name].cotangent), name


def test_a_ledger_counts_no_time_twice_where_layers_are_computed_again():
    class Block(Layer):
        def __call__(self, x):
            return ops.tanh(x) * 2.0

    x = Tensor(normal(5), requires_grad=True)
    with timing(Ledger()) as ledger, kernels.using("reference"):
        recompute(Block(), x).sum().backward()
    assert [(e.operation, e.direction) for e in ledger.entries] == [
        ("tanh", "forward"),
        ("multiply", "forward"),
        ("sum", "forward"),
        ("sum", "backward"),
        ("tanh", "forward"),
        ("multiply", "forward"),
        ("multiply", "backward"),
        ("tanh", "backward"),
    ]


def test_watching_is_known_through_other_steps_and_ends():
    assert not is_watched()
    with watching(lambda operation: None):
        with computing("float16", "cpu"):
            assert is_watched()
        assert is_watched()
    with computing("float16", "cpu"):
        assert not is_watched()

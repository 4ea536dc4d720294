"""What a layer holds is found wherever it lies, under PyTorch's names, and each of it once."""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from minswin import create_model, kernels, ops
from minswin.autograd import Tensor
from minswin.layers import Buffer, Conv2d, Dropout, Filters, Layer, Linear, Parameter, recompute
from minswin.parallel import data_parallel
from minswin.training.ema import WeightAverage
from minswin.training.optimizers import SGD, AdamW, clip_gradients

RNG = np.random.default_rng(0)


def linear():
    return Linear(3, 3, rng=RNG, dtype=np.float64)


def holding(value):
    """A layer class whose constructor assigns `value`."""

    class Holder(Layer):
        def __init__(self):
            self.held = value

    return Holder


class Chain(Layer):
    def __init__(self, *layers):
        self.layers = list(layers)

    def __call__(self, x):
        x = x if isinstance(x, Tensor) else Tensor(x)
        for layer in self.layers:
            x = ops.tanh(layer(x))
        return x


def names(layer):
    return [name for name, _ in layer.named_parameters()]


# ── where parameters may lie ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([linear()], ["held.0.weight", "held.0.bias"]),
        ((linear(), linear())[:1], ["held.0.weight", "held.0.bias"]),
        ({"a": linear()}, ["held.a.weight", "held.a.bias"]),
        (OrderedDict(b=Parameter(np.ones(1))), ["held.b"]),
        ({0: Parameter(np.ones(1))}, ["held.0"]),
        ([[linear()], [Parameter(np.ones(2))]], ["held.0.0.weight", "held.0.0.bias", "held.1.0"]),
        ([{"w": (Parameter(np.ones(2)),)}], ["held.0.w.0"]),
        ([ops.relu, linear(), None], ["held.1.weight", "held.1.bias"]),
    ],
)
def test_parameters_are_found_wherever_they_lie(value, expected):
    layer = holding(value)()
    assert names(layer) == expected
    assert list(layer.state_dict()) == expected
    assert layer.parameter_count() == sum(p.size for p in layer.parameters()) > 0


def test_own_parameters_come_first_and_then_all_in_the_order_of_definition():
    class Mixed(Layer):
        def __init__(self):
            self.fc = linear()
            self.gains = [Parameter(np.ones(1)), Parameter(np.ones(1))]
            self.scale = Parameter(np.ones(1))
            self.last = {"x": linear(), "y": Buffer(np.zeros(1))}

    found = ["scale", "fc.weight", "fc.bias", "gains.0", "gains.1", "last.x.weight", "last.x.bias"]
    assert names(Mixed()) == found
    assert list(Mixed().state_dict()) == [*found, "last.y"]


def test_names_and_order_are_those_of_pytorch():
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(2, 2)
            self.gains = torch.nn.ParameterList([torch.ones(1), torch.ones(1)])
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.rows = torch.nn.ModuleList([torch.nn.ModuleList([torch.nn.Linear(2, 2)])])
            self.by_name = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": self.fc})

    class Ours(Layer):
        def __init__(self):
            self.fc = linear()
            self.gains = [Parameter(np.ones(1)), Parameter(np.ones(1))]
            self.scale = Parameter(np.ones(1))
            self.rows = [[linear()]]
            self.by_name = {"a": linear(), "b": self.fc}

    assert names(Ours()) == [name for name, _ in Theirs().named_parameters()]


def test_modes_gradients_and_dropout_reach_layers_in_every_container():
    inner = [Dropout(0.5, rng=i) for i in range(4)]
    layer = holding({"a": [inner[0], (inner[1],)], "b": ({"c": inner[2]}, inner[3])})()
    layer.eval()
    assert not any(drop.training for drop in inner)
    with layer.train().evaluating():
        assert not any(drop.training for drop in inner)
    assert all(drop.training for drop in inner)
    assert len(layer.generators()) == 4


@pytest.mark.parametrize(
    "value",
    [
        {linear()},
        frozenset([Parameter(np.ones(1))]),
        deque([linear()]),
        SimpleNamespace(fc=linear()),
        SimpleNamespace(rows=[linear()]),
        [SimpleNamespace(fc=linear())],
        np.array([linear(), None], dtype=object),
        (linear() for _ in range(2)),
        map(Parameter, [np.ones(1)]),
        {(0, 1): linear()},
        {"a.b": linear()},
        {linear(): 1},
        partial(linear()),
        partial(print, linear()),
        partial(print, end=[linear()]),
        linear().__call__,
        Tensor(np.ones(2), requires_grad=True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_parameters_that_would_not_be_found_are_an_error_at_construction(value):
    with pytest.raises(TypeError, match=r"Holder.held|held: the key"):
        made = holding(value)()
        list(made.named_parameters())


def test_what_is_bound_to_a_layer_that_is_found_is_right():
    class Bound(Layer):
        def __init__(self):
            self.fc = linear()
            self.methods = [self.fc.__call__, self.train, partial(self.fc, None)]

    assert names(Bound()) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("kind", [dict, list])
def test_what_holds_itself_is_an_error(kind):
    held = {} if kind is dict else [None]
    held[0] = held
    with pytest.raises(TypeError, match="Holder: a list or dict in it holds itself"):
        holding(held)()


@pytest.mark.parametrize(
    "held", [[RNG], {"a": RNG}, (1, [RNG]), {RNG}], ids=["list", "dict", "inner", "set"]
)
def test_a_generator_in_a_container_is_an_error(held):
    with pytest.raises(TypeError, match=r"Holder.held: a Generator in a .* attribute of its own"):
        holding(held)()


def test_a_parameter_of_the_class_is_an_error_too():
    class Shared(Layer):
        weight = Parameter(np.ones(3))

    with pytest.raises(TypeError, match=r"Shared.weight: no optimizer would see it"):
        Shared()


def test_what_is_hidden_later_is_an_error_at_the_next_look():
    layer = holding([])()
    layer.held = {linear()}
    with pytest.raises(TypeError, match=r"Holder.held: nothing looks for parameters there"):
        list(layer.parameters())


def test_an_object_may_point_at_a_layer_that_is_found_elsewhere():
    class Pointing(Layer):
        def __init__(self):
            self.fc = linear()
            self.frozen = {self.fc.weight}
            self.helper = SimpleNamespace(layer=self.fc, owner=self)
            self.me = self

    assert names(Pointing()) == ["fc.weight", "fc.bias"]


# ── one parameter in several places ──────────────────────────────────────────────────────────────


def tied():
    """Two layers with one weight, and one of them twice in a list."""
    a, b = linear(), linear()
    b.weight = a.weight
    return Chain(a, b, a)


def test_a_tied_parameter_has_one_name_and_counts_once():
    model = tied()
    assert names(model) == ["layers.0.weight", "layers.0.bias", "layers.1.bias"]
    assert list(model.state_dict()) == names(model)
    assert model.parameter_count() == 9 + 3 + 3
    assert len(list(model.layers_within())) == 3  # with the chain itself


def gradients_of_ones(model):
    for p in model.parameters():
        p.grad = np.ones_like(p.data)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("make", [lambda n: SGD(n, 0.1, momentum=0.0), lambda n: AdamW(n, 0.1)])
def test_an_optimizer_moves_a_tied_parameter_once(make, backend):
    tied_model, free = tied(), Chain(linear(), linear())
    for model in (tied_model, free):
        for p in model.parameters():
            p.data[...] = 1
        gradients_of_ones(model)
        every_name = [
            (f"{i}.{name}", p)
            for i, layer in enumerate(model.layers)
            for name, p in layer.named_parameters()
        ]
        with kernels.using(backend):
            make(every_name).step()
    once, want = tied_model.layers[0].weight.data, free.layers[0].weight.data
    assert np.array_equal(once, want)


def test_clipping_counts_and_scales_a_tied_parameter_once():
    p = Parameter(np.zeros(2))
    p.grad = np.array([3.0, 0.0])
    assert clip_gradients([p, p], None) == 3.0
    assert clip_gradients([p, p], 1.5) == 3.0
    assert np.abs(p.grad - [1.5, 0]).max() < 1e-6


def test_an_average_follows_a_tied_parameter_once():
    p = Parameter(np.zeros(1))
    average = WeightAverage([("a", p), ("b", p)], 0.5)
    p.data += 1
    average.update()
    assert list(average.state_dict()) == ["a"]
    assert average.average["a"][0] == 1 - 2 / 11


def test_one_name_for_two_parameters_is_an_error():
    pairs = [("weight", Parameter(np.zeros(2))), ("weight", Parameter(np.zeros(3)))]
    for make in (lambda: SGD(pairs, 0.1), lambda: WeightAverage(pairs, 0.9)):
        with pytest.raises(ValueError, match=r"two parameters have the name 'weight'"):
            make()


def test_a_tied_state_is_loaded_under_any_of_its_names():
    model, array = tied(), np.arange(9.0).reshape(3, 3)
    rest = {"layers.0.bias": np.zeros(3), "layers.1.bias": np.ones(3)}
    first, second, third = (f"layers.{i}.weight" for i in range(3))
    for state in ({first: array}, {second: array + 1}, {first: array, second: array, third: array}):
        model.load_state_dict({**state, **rest})
        assert np.array_equal(model.layers[1].weight.data, next(iter(state.values())))
    with pytest.raises(ValueError, match=r"one parameter, other numbers \(1\): layers.0.weight"):
        model.load_state_dict({first: array, second: array + 1, **rest})
    with pytest.raises(ValueError, match=r"missing \(1\): layers.0.weight"):
        model.load_state_dict(rest)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_split_model_gives_tied_parameters_the_gradient_of_the_whole(threads):
    model, gradients = tied(), []
    x, g = np.random.default_rng(2).standard_normal((2, 5, 3))
    for forward in (model, data_parallel(model, threads)):
        model.zero_grad()
        forward(x).backward(g)
        gradients.append([p.grad for p in model.parameters()])
    assert all(np.abs(a - b).max() < 1e-14 for a, b in zip(*gradients, strict=True))


def test_recomputing_gives_tied_parameters_the_same_gradient():
    model, gradients = tied(), []
    x, g = np.random.default_rng(2).standard_normal((2, 5, 3))
    for forward in (model, lambda x: recompute(model, Tensor(x))):
        model.zero_grad()
        forward(x).backward(g)
        gradients.append([p.grad for p in model.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*gradients, strict=True))


def test_moving_a_tied_model_keeps_it_tied():
    model = tied()
    model.to("cpu")
    assert model.layers[0].weight is model.layers[1].weight


# ── what models know of themselves ───────────────────────────────────────────────────────────────

TOKENS = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 12, "depth": 3, "num_heads": 2}
PYRAMID = {"img_size": (8, 12), "embed_dim": 6, "depths": (1, 2), "num_heads": (1, 2)}
FAMILIES = {
    "swin_cifar": {**PYRAMID, "window_size": 2, "ape": True},
    "swinv2_cifar": {**PYRAMID, "window_size": 2},
    "vit_cifar": TOKENS,
    "deit_cifar_distilled": TOKENS,
    "tnt_cifar": {**TOKENS, "inner_dim": 4},
    "resnet20": {"img_size": (8, 12), "depths": (1, 1), "width": 4},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_feature_maps_have_one_form_in_all_families(name):
    model = create_model(name, rng=0, dtype=np.float64, **FAMILIES[name]).eval()
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 12))
    maps = model.feature_maps(x)
    stages = [row for row in model.summary() if row.is_stage]
    if stages:
        assert [y.shape[1:] for y in maps] == [row.shape for row in stages]
    else:
        assert [y.shape for y in maps] == [(2, 2, 3, 12)] * 3
    height, width = model.first_stride
    assert maps[0].shape[1:3] == (8 // height, 12 // width)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_models_heads_give_its_logits_and_its_positions_are_parameters(name):
    model = create_model(name, rng=0, **FAMILIES[name])
    named = dict(model.named_parameters())
    assert all(len(named[f"{head}.weight"]) == 10 for head in model.head_names)
    present = [n for n in model.position_names if n in named]
    assert present == ([] if model.family in ("resnet", "swinv2") else [*model.position_names])
    assert all(named[n].shape[:1] == (1,) and not named[n].decays for n in present)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_rows_of_a_summary_count_every_parameter_once(name):
    model = create_model(name, rng=0, **FAMILIES[name])
    assert sum(row.parameters for row in model.summary()) == model.parameter_count()
    macs = model.flops()
    linears = [layer for layer in model.layers_within() if isinstance(layer, Linear)]
    filters = [x for x in model.layers_within() if isinstance(x, Filters)]
    for kind in (linears, filters):
        for i, layer in enumerate(kind):  # tie all that can be tied
            layer.weight = next(x.weight for x in kind[: i + 1] if same(x, layer))
    assert sum(row.parameters for row in model.summary()) == model.parameter_count()
    assert model.flops() == macs  # a weight that is used twice costs twice


def same(a, b):
    return a.weight.shape == b.weight.shape


@pytest.mark.parametrize("kernel", [(1, 7), (5, 2), (3, 3)])
def test_filters_begin_within_one_by_the_root_of_what_they_sum(kernel):
    conv = Conv2d(2, 300, kernel, rng=0)
    bound = (2 * kernel[0] * kernel[1]) ** -0.5
    for x in (conv.weight, conv.bias):
        assert 0.98 * bound < abs(x.data).max() <= bound

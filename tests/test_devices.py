"""The same code on another device: what a stand-in for CuPy can show on the CPU, and on a GPU."""

from __future__ import annotations

import sys

import host_cuda
import numpy as np
import pytest
import standin
from gpu import require_gpu
from tiny_models import batch, tiny_model

from minswin import Tensor, create_model, devices, no_grad, ops
from minswin.arrays import to_numpy
from minswin.check import samples
from minswin.models import writing
from minswin.models.deit import soft_distillation_loss
from minswin.models.transformer import Transformer, sequence_loss
from minswin.reference import updates
from minswin.training import SGD, AdamW, Muon, WeightAverage, clip_gradients, evaluate, predict


@pytest.fixture
def cupy(monkeypatch):
    return standin.use(monkeypatch)


def there(x):
    """Every array inside x on the GPU; the rest as it is."""
    if isinstance(x, np.ndarray):
        return devices.to_device(x, "gpu")
    if isinstance(x, (tuple, list)):
        return type(x)(there(item) for item in x)
    return {k: there(v) for k, v in x.items()} if isinstance(x, dict) else x


def assert_same(ours, truth):
    """The same numbers to the bit, on the GPU."""
    if truth is None:
        assert ours is None
        return
    assert type(ours) is standin.ndarray
    assert ours.dtype == truth.dtype and ours.shape == np.shape(truth)
    assert np.array_equal(ours.get(), truth, equal_nan=True)


# ── the stand-in is as foreign as CuPy ───────────────────────────────────────────────────────────


def test_no_function_of_numpy_takes_an_array_of_the_stand_in(cupy):
    x, here = cupy.asarray(np.ones(3)), np.ones(3)
    attempts = [
        lambda: np.asarray(x),
        lambda: np.add(x, x),
        lambda: np.exp(x),
        lambda: np.concatenate([x, x]),
        lambda: np.where(x > 0, x, x),
        lambda: here + x,
        lambda: x * here,
        lambda: x[np.array([0, 1])],
        lambda: here[x.astype(int)],
        lambda: cupy.exp(here),
    ]
    for attempt in attempts:
        with pytest.raises((TypeError, IndexError)):
            attempt()


def test_the_stand_in_counts_as_cupy(cupy):
    assert devices.device_of(cupy.asarray(np.ones(2))) == "gpu:0"
    assert devices.device_of(np.ones(2)) == "cpu"


# ── definitions ──────────────────────────────────────────────────────────────────────────────────

SAMPLES = list(samples(np.random.default_rng(6)))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[0].__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_definition_computes_on_the_device_of_its_arrays(cupy, sample, dtype):
    definition, arrays, settings = sample
    arrays = [x.astype(dtype) if x is not None and x.dtype.kind == "f" else x for x in arrays]
    truth, true_vjp = definition(*arrays, **settings)
    g = np.random.default_rng(7).standard_normal(np.shape(truth)).astype(dtype)
    value, vjp = definition(*there(arrays), **there(settings))
    assert_same(value, truth)
    for ours, theirs in zip(vjp(there(g)), true_vjp(g), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["sgd_step", "adamw_step"])
def test_every_update_writes_into_arrays_of_its_device(cupy, name):
    rng, step = np.random.default_rng(8), getattr(updates, name)
    arrays = [rng.random((3, 4), np.float32) for _ in range(3 if name == "sgd_step" else 4)]
    settings = {"lr": 0.1, "decay": 0.2}
    if name == "sgd_step":
        settings.update(momentum=0.9, nesterov=True)
    else:
        settings.update(beta1=0.8, beta2=0.9, eps=1e-8, t=3)
    ours = there(arrays)
    step(*ours, **settings)
    step(*arrays, **settings)
    for a, b in zip(ours, arrays, strict=True):
        assert_same(a, b)


# ── operations ───────────────────────────────────────────────────────────────────────────────────


def test_an_operation_on_two_devices_names_both_and_says_what_to_do(cupy):
    x, y = Tensor(np.ones((2, 3))), Tensor(np.ones((2, 3))).to("gpu:1")
    with pytest.raises(ValueError, match=r"add: .*two devices, cpu and gpu:1; .*\.to\('cpu'\)"):
        x + y
    with pytest.raises(ValueError, match="gpu:0 and gpu:1"):
        ops.concatenate(x.to("gpu"), y)
    with pytest.raises(ValueError, match=r"take: .*gpu:0 and cpu"):
        ops.take(x.to("gpu"), np.array([0]))


def test_numbers_and_lists_go_to_the_device_of_the_arrays_beside_them(cupy):
    x = Tensor(np.arange(3, dtype=np.float32)).to("gpu")
    for ours, truth in (
        (2 * x, [0, 2, 4]),
        (x - 0.5, [-0.5, 0.5, 1.5]),
        (ops.add(x, [1, 2, 3]), [1, 3, 5]),
    ):
        assert_same(ours.data, np.array(truth, np.float32))
    assert_same((x * np.float64(2)).data, np.array([0, 2, 4], np.float32))


@pytest.mark.parametrize("number", [2, 0.5, True, np.float32(0.5), np.int64(3)])
@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_a_number_beside_an_array_is_the_same_number_on_every_device(cupy, kind, number):
    x = np.arange(3).astype(kind)
    for operation in (ops.add, ops.multiply, ops.divide):
        assert_same(operation(there(x), number).data, operation(x, number).data)


def test_a_number_beside_an_array_on_a_gpu_can_be_captured(cupy):
    x, stream = Tensor(np.ones(3, np.float32)).to("gpu"), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        2 * x + 1
        stream.end_capture()


def test_a_tensor_that_moves_sends_its_gradient_home(cupy):
    x = Tensor(np.array([1.0, 2.0, 5.0]), requires_grad=True)
    y = x.to("gpu")
    (y * y).backward(there(np.array([3.0, -1.0, 0.5])))
    assert isinstance(x.grad, np.ndarray)
    assert x.grad.tolist() == [6, -4, 5]
    assert x.to("cpu") is x and y.to("gpu") is y and y.to("gpu:0") is y
    assert y.numpy().tolist() == [1, 2, 5]


def test_a_list_of_cotangents_goes_to_the_device_of_the_result(cupy):
    x = Tensor(there(np.array([1.0, 2.0])), requires_grad=True)
    (x * x).backward([1.0, 0.5])
    assert_same(x.grad, np.array([2.0, 2.0]))


# ── models ───────────────────────────────────────────────────────────────────────────────────────

SMALL = {"img_size": (8, 8), "num_classes": 5}
SWIN = {
    "patch_size": 2,
    "embed_dim": 6,
    "depths": (2,),
    "num_heads": (2,),
    "window_size": 2,
    **SMALL,
}
VIT = {"patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, **SMALL}
FAMILIES = {
    "swin": ("swin_shapes", {**SWIN, "drop_rate": 0.1, "attn_drop_rate": 0.1}),
    "swin padded": ("swin_shapes", {**SWIN, "img_size": (8, 12), "window_size": 3}),
    "swin merged": ("swin_shapes", {**SWIN, "depths": (2, 2), "num_heads": (2, 3)}),
    "swin v2": ("swinv2_cifar", SWIN),
    "vit relative": ("vit_cifar", {**VIT, "positions": "relative"}),
    "vit waves": ("vit_cifar", {**VIT, "positions": "sinusoidal"}),
    "vit learnt": ("vit_cifar", VIT),
    "deit": ("deit_tiny_distilled", VIT),
    "tnt": ("tnt_small", {**VIT, "inner_dim": 4, "inner_num_heads": 2}),
    "swin again": ("swin_shapes", {**SWIN, "recompute": True, "drop_path_rate": 0.5}),
    "resnet pooled": ("resnet18", {"num_classes": 5, "img_size": (32, 32), "width": 4}),
    "resnet": ("resnet20", {"num_classes": 5, "img_size": (8, 8)}),
}


def pair_of(family):
    """A model of the family on the CPU, and its equal on the GPU."""
    name, settings = FAMILIES[family]
    here, gpu = (create_model(name, rng=np.random.default_rng(3), **settings) for _ in range(2))
    return here, gpu.to("gpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_on_a_device_as_on_the_cpu(cupy, family):
    here, gpu = pair_of(family)
    rng = np.random.default_rng(4)
    H, W = here.img_size
    x, labels = rng.standard_normal((3, 3, H, W)).astype(np.float32), rng.integers(0, 5, 3)
    for model, images, targets in ((here, x, labels), (gpu, there(x), there(labels))):
        model.train()
        ops.cross_entropy(model(images), targets, smoothing=0.1).backward()
    for (name, p), (_, q) in zip(here.named_parameters(), gpu.named_parameters(), strict=True):
        assert p.grad is not None, name
        assert_same(q.grad, p.grad)
    for (_, p), (_, q) in zip(here.named_buffers(), gpu.named_buffers(), strict=True):
        assert_same(q.data, p.data)
    with no_grad():
        assert_same(gpu.eval()(there(x)).data, here.eval()(x).data)


def test_a_model_goes_there_and_back_with_its_gradients_and_buffers(cupy):
    model, x = tiny_model(), batch(3)
    ops.cross_entropy(model(x[0]), x[1]).backward()
    parameters, gradients = list(model.parameters()), [p.grad for p in model.parameters()]
    assert model.to("gpu") is model
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    for p, g in zip(parameters, gradients, strict=True):
        assert_same(p.grad, g)
    model.to("cpu")
    assert all(np.array_equal(p.grad, g) for p, g in zip(parameters, gradients, strict=True))
    assert all(isinstance(p.data, np.ndarray) for p in parameters)


def test_a_model_that_does_not_fit_on_a_device_is_left_whole(cupy, monkeypatch):
    model, copies = tiny_model(), []

    def too_small(x):
        copies.append(x)
        if len(copies) == 5:
            raise MemoryError("out of memory")
        return standin.asarray(x)

    monkeypatch.setattr(cupy, "asarray", too_small)
    with pytest.raises(MemoryError):
        model.to("gpu")
    assert all(isinstance(p.data, np.ndarray) for p in model.parameters())


def test_images_on_the_cpu_for_a_model_on_a_gpu_are_an_error(cupy):
    with pytest.raises(ValueError, match=r"two devices, cpu and gpu:0; .*model with model\.to"):
        tiny_model().to("gpu")(batch(2)[0])


def test_weights_are_loaded_from_either_device_onto_either(cupy):
    source, here, gpu = tiny_model(), tiny_model(), tiny_model().to("gpu")
    for p in source.parameters():
        p.data += 1
    gpu.load_state_dict(source.state_dict())
    here.load_state_dict(gpu.state_dict())
    for p, q, r in zip(*(m.parameters() for m in (source, here, gpu)), strict=True):
        assert np.array_equal(p.data, q.data)
        assert_same(r.data, p.data)


def test_a_transformer_learns_and_writes_on_a_device_as_on_the_cpu(cupy):
    rng = np.random.default_rng(5)
    source, target = rng.integers(1, 7, (2, 5)), rng.integers(1, 7, (2, 4))
    source[1, 3:] = target[1, 2:] = 0
    settings = {"embed_dim": 8, "depth": 1, "num_heads": 2, "drop_rate": 0.2}
    here, gpu = (
        Transformer(vocabulary=7, rng=np.random.default_rng(3), **settings) for _ in range(2)
    )
    gpu.to("gpu")
    for model, s, t in ((here, source, target), (gpu, there(source), there(target))):
        sequence_loss(model(s, t[:, :-1]), t[:, 1:]).backward()
    for p, q in zip(here.parameters(), gpu.parameters(), strict=True):
        assert_same(q.grad, p.grad)
    for write in (writing.greedy, writing.beam_search):
        ours = write(gpu, there(source), start=1, stop=2, length=5)
        assert np.array_equal(ours, write(here, source, start=1, stop=2, length=5))


def test_a_teachers_advice_is_taken_on_a_device(cupy):
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal((3, 4)) for _ in range(3)]
    labels, losses = rng.integers(0, 4, 3), []
    for move in (lambda x: x, there):
        a, b, advice = (Tensor(move(x)) for x in arrays)
        losses.append(soft_distillation_loss((a, b), move(labels), advice).item())
    assert losses[0] == losses[1]


# ── training ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [SGD, AdamW, Muon])
def test_optimizer_clipping_and_average_work_where_the_model_is(cupy, kind):
    """Moved in the middle, with what the optimizer and the average have gathered."""
    results = []
    for device in ("cpu", "gpu"):
        model = tiny_model(dtype=np.float32)
        optimizer = kind(model.named_parameters(), 0.1, weight_decay=0.1)
        average = WeightAverage(model.named_parameters(), 0.9)
        x, labels = batch(4, np.float32)
        for step in range(4):
            if step == 2:
                for part in (model, optimizer, average):
                    part.to(device)
                x, labels = (devices.to_device(a, device) for a in (x, labels))
            model.zero_grad()
            ops.cross_entropy(model(x), labels).backward()
            clip_gradients(model.parameters(), 0.5 if step % 2 else None)
            optimizer.step()
            average.update()
        results.append([*optimizer.state_dict().values(), *average.state_dict().values()])
        results[-1] += [p.data for p in model.parameters()]
    for ours, truth in zip(results[1], results[0], strict=True):
        assert np.array_equal(to_numpy(ours), truth)


@pytest.mark.parametrize("limit", [None, 0.01, 1e9])
def test_clipping_on_a_device_waits_for_nothing_and_gives_the_same(cupy, monkeypatch, limit):
    here, gpu = tiny_model(dtype=np.float32), tiny_model(dtype=np.float32)
    rng = np.random.default_rng(1)
    for p, q in zip(here.parameters(), gpu.parameters(), strict=True):
        p.grad = rng.standard_normal(p.shape).astype(np.float32)
        q.grad = there(p.grad)
    norm = clip_gradients(here.parameters(), limit)
    with monkeypatch.context() as patch:
        patch.setattr(standin.ndarray, "get", None)
        ours = clip_gradients(gpu.parameters(), limit)
    assert ours.item() == norm
    for p, q in zip(here.parameters(), gpu.parameters(), strict=True):
        assert_same(q.grad, p.grad)


def test_evaluation_and_prediction_give_the_same_on_a_device(cupy):
    here, gpu = tiny_model(), tiny_model().to("gpu")
    x, labels = batch(5)
    truth, ours = evaluate(here, [(x, labels)]), evaluate(gpu, [(there(x), there(labels))])
    assert truth.loss == ours.loss and truth.accuracy == ours.accuracy
    assert np.array_equal(predict(gpu, x), predict(here, x))


# ── without a GPU ────────────────────────────────────────────────────────────────────────────────


def test_without_cupy_the_message_has_the_install_line_and_the_cpu_works_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    model = tiny_model()
    for attempt in (lambda: model.to("gpu"), lambda: Tensor(np.ones(2)).to("gpu:1")):
        with pytest.raises(
            ImportError, match=r"device 'gpu.*pip install cupy-cuda13x .*, or .*'cpu'"
        ):
            attempt()
    assert model.to("cpu")(batch(2)[0]).shape == (2, 5)


def test_without_a_gpu_the_message_says_so(cupy, monkeypatch):
    def no_driver():
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    for count, reason in ((no_driver, "cudaErrorNoDevice"), (lambda: 0, "counts 0")):
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
        with pytest.raises(OSError, match=f"'gpu': there is no GPU .*{reason}.*nvidia-smi"):
            tiny_model().to("gpu")


def test_a_gpu_that_is_not_there_is_named(cupy):
    with pytest.raises(OSError, match="'gpu:2': there are 2 GPUs, counted from 0"):
        devices.to_device(np.ones(2), "gpu:2")


@pytest.mark.parametrize("name", ["cuda", "gpu:", "gpu:-1", "gpu:x", "", "CPU", 0])
def test_a_device_of_another_name_is_refused(name):
    with pytest.raises(ValueError, match="device must be 'cpu', 'gpu' or 'gpu:1'"):
        devices.to_device(np.ones(2), name)


def test_a_table_is_moved_once_to_each_device(cupy):
    made = []

    def squares(count):
        made.append(count)
        return np.arange(count) ** 2

    x, y = there(np.ones(1)), devices.to_device(np.ones(1), "gpu:1")
    first = devices.constant(x, squares, 3)
    assert devices.constant(x, squares, 3) is first
    assert_same(first, np.array([0, 1, 4]))
    assert devices.device_of(devices.constant(y, squares, 3)) == "gpu:1"
    assert made == [3, 3]
    assert isinstance(devices.constant(np.ones(1), squares, 2), np.ndarray)


# ── on a GPU ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.gpu
def test_the_cifar_model_trains_to_the_losses_of_the_cpu():
    """20 steps; where the CPU stands for the GPU, 3 with fewer images."""
    require_gpu()
    images, steps = (16, 20) if host_cuda.entered() is None else (2, 3)
    rng, losses = np.random.default_rng(0), {}
    x = rng.standard_normal((images, 3, 32, 32)).astype(np.float32)
    labels = rng.integers(0, 10, images)
    for device in ("cpu", "gpu"):
        with devices.working_on(device):
            settings = {"rng": np.random.default_rng(1), "drop_path_rate": 0.1}
            model = create_model("swin_cifar", **settings).to(device)
            optimizer = SGD(model.named_parameters(), 0.01, momentum=0.9)
            images, targets = (devices.to_device(a, device) for a in (x, labels))
            losses[device] = []
            for _ in range(steps):
                model.zero_grad()
                loss = ops.cross_entropy(model(images), targets)
                loss.backward()
                optimizer.step()
                losses[device].append(loss.item())
    assert losses["cpu"][-1] < losses["cpu"][0]
    assert np.abs(np.subtract(losses["cpu"], losses["gpu"])).max() < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[0].__name__)
def test_every_definition_computes_on_a_gpu_what_it_computes_on_the_cpu(sample):
    require_gpu()
    definition, arrays, settings = sample
    truth, true_vjp = definition(*arrays, **settings)
    g = np.random.default_rng(7).standard_normal(np.shape(truth))
    value, vjp = definition(*there(arrays), **there(settings))
    assert np.allclose(to_numpy(value), truth, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(vjp(there(g)), true_vjp(g), strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or np.allclose(to_numpy(ours), theirs, rtol=1e-12, atol=1e-12)


def test_where_a_gpu_is_required_its_absence_is_a_failure_and_else_a_skip(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    for value, outcome in (("", pytest.skip.Exception), ("1", pytest.fail.Exception)):
        monkeypatch.setenv("MINSWIN_REQUIRE_GPU", value)
        with pytest.raises(BaseException, match=r"needs a GPU: .*CuPy cannot be loaded") as caught:
            require_gpu()
        assert caught.type is outcome  # a skip that is let through would skip this test

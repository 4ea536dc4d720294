"""Models and their training give on another device the numbers of the CPU."""

from __future__ import annotations

import host_cuda
import numpy as np
import other_device
import pytest
import standin
from gpu import require_gpu
from other_device import FAMILIES, assert_same, pair_of, there
from tiny_models import batch, tiny_model

from minswin import Tensor, create_model, devices, no_grad, ops
from minswin.arrays import to_numpy
from minswin.models import writing
from minswin.models.deit import soft_distillation_loss
from minswin.models.transformer import Transformer, sequence_loss
from minswin.training import SGD, AdamW, Muon, WeightAverage, clip_gradients, evaluate, predict

cupy = other_device.cupy  # the fixture


# ── models ───────────────────────────────────────────────────────────────────────────────────────


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

"""Products in short numbers: what is short and what is not, scaling of the loss, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import standin
import tiny_training
from tiny_models import batch, tiny_model
from tiny_training import tiny_settings

from minswin import Tensor, ops
from minswin.arrays import to_numpy
from minswin.training import Settings, read_checkpoint, resume, train
from minswin.training.folder import Folder
from minswin.training.precision import LossScale, computing
from minswin.training.progress import read_journal
from minswin.training.run import Run


@pytest.fixture(params=["cpu", "gpu"])
def device(request, monkeypatch):
    if request.param == "gpu":
        standin.use(monkeypatch)
    return request.param


def as_half(x):
    return x.astype(np.float16).astype(np.float32)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


# ── products ─────────────────────────────────────────────────────────────────────────────────────


def test_a_linear_layer_multiplies_halves_and_gives_float32(device):
    x, w, b, g = normal(4, 5), normal(3, 5), normal(3), normal(4, 3)
    tensors = [Tensor(a, requires_grad=True).to(device) for a in (x, w, b)]
    leaves = [Tensor(t.data, requires_grad=True) for t in tensors]
    with computing("float16", device):
        y = ops.linear(*leaves)
        y.backward(Tensor(g).to(device).data)
    truth = as_half(x) @ as_half(w).T + as_half(b)
    assert y.dtype == np.float32
    assert np.allclose(to_numpy(y.data), truth, atol=4e-3)
    assert not np.allclose(to_numpy(y.data), x @ w.T + b, atol=1e-6)
    gradients = as_half(g) @ as_half(w), as_half(g).T @ as_half(x), as_half(g).sum(0)
    for leaf, dx in zip(leaves, gradients, strict=True):
        assert leaf.grad.dtype == np.float32
        assert np.allclose(to_numpy(leaf.grad), dx, atol=1e-2)


def test_what_is_no_product_stays_exact():
    x = normal(4, 6)
    weight, bias = normal(6, seed=1), normal(6, seed=2)
    for operation, inputs in (
        (ops.softmax, (x,)),
        (ops.gelu, (x,)),
        (ops.layer_norm, (x, weight, bias)),
        (ops.add, (x, x)),
    ):
        truth = operation(*inputs).data
        with computing("float16", "cpu"):
            ours = operation(*inputs).data
        assert np.abs(ours - truth).max() < 1e-6, operation


def test_attention_multiplies_halves_but_its_softmax_is_not_short():
    """Logits of 3,000 apart in steps of 1/4: in float16 they would be multiples of 2."""
    q, k = np.array([[1.0]], np.float32), np.array([[2048.0], [2048.25]], np.float32)
    k16 = as_half(k)
    v = np.array([[0.0], [1.0]], np.float32)
    bias = np.array([[0.0, 0.25]], np.float32)
    with computing("float16", "cpu"):
        y = ops.attention(q, k, v, bias).item()
    logits = (k16[:, 0] + bias[0]).astype(np.float64)
    assert y == pytest.approx(1 / (1 + np.exp(logits[0] - logits[1])), abs=1e-3)


def test_outside_of_the_block_all_is_as_before():
    x, w = normal(4, 5), normal(3, 5)
    truth = ops.linear(x, w, None).data
    with computing("float16", "cpu"):
        short = ops.linear(x, w, None).data
    assert not np.array_equal(short, truth)
    assert np.array_equal(ops.linear(x, w, None).data, truth)


@pytest.mark.parametrize("family", ["swin_shapes", "vit_cifar"])
def test_a_model_in_float16_is_near_the_exact_one_and_its_weights_stay_long(family):
    model = tiny_model(family, dtype=np.float32)
    x, labels = batch(4, np.float32)
    results = []
    for precision in ("float32", "float16"):
        model.zero_grad()
        with computing(precision, "cpu"):
            loss = ops.cross_entropy(model(x), labels)
            loss.backward()
        results.append([loss.data, *(p.grad for p in model.parameters())])
    assert all(p.data.dtype == np.float32 for p in model.parameters())
    for ours, truth in zip(results[1], results[0], strict=True):
        assert ours.dtype == np.float32
        assert np.linalg.norm(ours - truth) <= 0.02 * np.linalg.norm(truth) + 1e-4
    assert any(not np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_a_convolution_multiplies_halves():
    x, weight = normal(2, 3, 6, 5), normal(4, 3, 3, 2)
    with computing("float16", "cpu"):
        short = ops.conv2d(x, weight, None).data
    assert short.dtype == np.float32
    assert np.allclose(short, ops.conv2d(as_half(x), as_half(weight), None).data, atol=0.02)
    assert not np.allclose(short, ops.conv2d(x, weight, None).data, atol=1e-6)


# ── scaling ──────────────────────────────────────────────────────────────────────────────────────


def test_a_gradient_too_small_for_float16_survives_by_the_scale():
    x, w = np.full((1, 2), 1e-3, np.float32), Tensor(np.ones((1, 2), np.float32), True)
    gradients = []
    for scale in (None, LossScale(w.data)):
        w.grad = None
        with computing("float16", "cpu"):
            loss = ops.linear(x, w, None).sum() * 1e-5
            loss.backward(None if scale is None else scale.array)
        if scale is not None:
            scale.undo([w])
        gradients.append(w.grad)
    assert np.all(gradients[0] == 0)  # 1e-8 is nothing in float16
    assert np.allclose(gradients[1], 1e-8, rtol=1e-2, atol=0)


def test_the_scale_is_halved_by_an_overflow_and_doubled_after_patience(device):
    like = Tensor(np.ones(3, np.float32)).to(device).data
    scale = LossScale(like, start=8.0, patience=3)
    seen = []
    for finite in (True, True, False, True, True, True, True, False, False):
        assert scale.follow(finite) is finite
        seen.append(scale.array.item())
    assert seen == [8, 8, 4, 4, 4, 8, 8, 4, 2]
    other = LossScale(like, patience=3)
    other.restore(scale.state())
    assert other.array.item() == 2 and other.array.dtype == np.float32


@pytest.fixture
def tiny(monkeypatch):
    tiny_training.install(monkeypatch)


@pytest.mark.parametrize("at", [0, 3])
def test_a_run_in_float16_skips_a_step_that_overflows_and_goes_on(
    tiny, device, tmp_path, monkeypatch, at
):
    settings = tiny_settings(tmp_path, device=device, precision="float16", epochs=1, ema=0.0)
    feed, step, before = Run.feed, Run.count, []

    def large(self, batches):
        def scaled():
            for number, (x, y) in enumerate(batches):
                yield x * np.float32(1e6 if number == at and self.model.training else 1), y

        return feed(self, scaled())

    def counted(self, made):
        before.append(
            (made, {n: to_numpy(p.data).copy() for n, p in self.model.named_parameters()})
        )
        step(self, made)

    monkeypatch.setattr(Run, "feed", large)
    monkeypatch.setattr(Run, "count", counted)
    result = train(settings, quiet=True)
    assert [made.skipped for made, _ in before] == [number == at for number in range(7)]
    first = [weights["head.weight"] for _, weights in before]
    assert all(
        np.array_equal(a, b) == (number == at)
        for number, (a, b) in enumerate(itertools.pairwise(first), start=1)
    )
    info = read_checkpoint(tmp_path).info
    assert info["loss_scale"] == [2.0**15, 6 - at] and result.steps == 7
    losses = [line["loss"] for line in read_journal(tmp_path / "log.jsonl") if "loss" in line]
    assert (losses[at] is None) and np.isfinite(losses[-1])
    assert set(read_checkpoint(tmp_path).optimizer["steps"].tolist()) == {6}


def test_a_run_in_float16_ends_near_the_exact_one(tiny, tmp_path):
    for precision in ("float16", "float32"):
        train(tiny_settings(tmp_path / precision, precision=precision, epochs=1), quiet=True)
    exact = read_checkpoint(tmp_path / "float32").weights
    for name, array in read_checkpoint(tmp_path / "float16").weights.items():
        assert array.dtype == np.float32
        assert np.linalg.norm(array - exact[name]) <= 0.1 * np.linalg.norm(exact[name]) + 0.05


def test_a_run_in_float16_resumes_with_its_scale(tiny, tmp_path, monkeypatch):
    settings = {"precision": "float16", "epochs": 1, "checkpoint_every": 4}
    train(tiny_settings(tmp_path / "whole", **settings), quiet=True)

    class Stopped(Exception):
        pass

    def stop(folder, *names):
        save(folder, *names)
        if folder.run.step == 4:
            raise Stopped

    save = Folder.save
    monkeypatch.setattr(Folder, "save", stop)
    with pytest.raises(Stopped):
        train(tiny_settings(tmp_path / "parts", **settings), quiet=True)
    monkeypatch.setattr(Folder, "save", save)
    resume(tmp_path / "parts", quiet=True)
    whole, parts = (read_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert parts.info["loss_scale"] == whole.info["loss_scale"] == [2.0**16, 7]
    for name, array in whole.weights.items():
        assert np.array_equal(parts.weights[name], array)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("tf32", "a mode of NVIDIA's GPUs, and the device is 'cpu'; choose float32, bfloat16 or"),
        ("float8", "must be one of float32, tf32, float16, bfloat16, got 'float8'"),
    ],
)
def test_a_precision_that_the_device_has_not_is_refused_before_the_work(precision, message):
    with pytest.raises(ValueError, match=message):
        Settings(precision=precision)


def test_bfloat16_says_which_package_has_it(monkeypatch):
    standin.use(monkeypatch)
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with (
        pytest.raises(ImportError, match=r"'bfloat16': NumPy has no such type.*pip install"),
        computing("bfloat16", "gpu"),
    ):
        pass

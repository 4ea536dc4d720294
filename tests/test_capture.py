"""Steps recorded as CUDA graphs, on the real CuPy: every family, and what a replay asks for."""

from __future__ import annotations

import host_cuda
import numpy as np
import pytest
from gpu import require_gpu
from other_device import FAMILIES, pair_of
from tiny_models import batch, tiny_model

from minswin import create_model, ops
from minswin.devices import to_device, working_on
from minswin.training import SGD, AdamW, WeightAverage
from minswin.training.fit import backward
from minswin.training.gpu import WARM_UP, Captured
from minswin.training.precision import LossScale, computing

pytestmark = pytest.mark.gpu
STEPS = WARM_UP + 3


@pytest.fixture(autouse=True)
def cupy():
    return require_gpu()


def losses_of(model, *, record, precision="float32", size=None, counts=None, count=STEPS):
    """Losses of `count` steps; `counts` gets what the last one asked of the device."""
    said, losses = [], []
    with working_on("gpu"):
        model.to("gpu").train()
        like = next(model.parameters()).data
        scale = LossScale(like, start=256.0) if precision == "float16" else None

        def differentiate(x, targets):
            model.zero_grad()
            with computing(precision, "gpu"):
                loss = ops.cross_entropy(model(x), targets)
                loss.backward(None if scale is None else scale.array)
            if scale is not None:
                scale.undo(model.parameters())
            return loss.data

        step = Captured(differentiate, model, said.append) if record else differentiate
        optimizer = SGD(model.named_parameters(), 0.05, momentum=0.9)
        rng = np.random.default_rng(4)
        x = rng.standard_normal((3, 3, *(size or model.img_size))).astype(np.float32)
        x, targets = to_device(x, "gpu"), to_device(rng.integers(0, 5, 3), "gpu")
        for number in range(count):
            if counts is not None and number == count - 1:
                with host_cuda.counted() as asked:
                    loss = step(x, targets)
                    optimizer.step()
                counts.update(asked)
            else:
                loss = step(x, targets)
                optimizer.step()
            losses.append(loss.item())
    assert said == []
    if record:
        (recording,) = step.recordings.values()
        assert recording.graph is not None
    return losses


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_captured_and_gives_the_losses_of_plain_steps(family):
    models = pair_of(family)
    recorded, plain = (losses_of(m, record=r) for m, r in zip(models, (True, False), strict=True))
    assert recorded == plain and len(set(recorded)) == STEPS


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["swin_shapes", "vit_cifar"])
def test_every_precision_is_captured_and_near_the_exact_one(name, precision):
    models = [tiny_model(name, dtype=np.float32) for _ in range(3)]
    recorded = losses_of(models[0], record=True, precision=precision)
    plain = losses_of(models[1], record=False, precision=precision)
    exact = losses_of(models[2], record=False)
    assert recorded == plain
    assert recorded != exact and np.allclose(recorded, exact, rtol=0.05)


def test_a_replay_neither_waits_nor_copies_from_the_cpu_more_than_once():
    if host_cuda.entered() is None:
        pytest.skip("what is asked of a real GPU is not counted")
    counts = {}
    losses_of(tiny_model(dtype=np.float32, rate=0.5, drop_rate=0.1), record=True, counts=counts)
    assert counts["graph"] == 1 and counts["kernel"] > 30 and counts["product"] > 10
    assert counts["copy from the host"] == 1  # what the drop paths draw
    assert not counts.keys() & {"wait", "copy to the host", "malloc"}


def test_nothing_is_compiled_while_a_step_is_recorded():
    """The last plain call draws as a replay does, so that all kernels have run once."""
    if host_cuda.entered() is None:
        pytest.skip("what is asked of a real GPU is not counted")
    with host_cuda.counted() as counts:
        losses_of(tiny_model(dtype=np.float32, rate=0.5, drop_rate=0.1), record=True)
    assert counts["module loaded in a capture"] == 0


def test_another_mode_or_precision_is_another_recording():
    model = tiny_model(dtype=np.float32, rate=0.5)
    with working_on("gpu"):
        model.to("gpu").train()
        step = Captured(lambda x: ops.sum(model(x)).data, model, pytest.fail)
        x = to_device(batch(2, np.float32)[0], "gpu")
        for _ in range(WARM_UP + 1):
            step(x)
        model.eval()
        sums = [step(x).item() for _ in range(WARM_UP + 2)]
        assert len(set(sums)) == 1  # nothing is dropped any more
        with computing("bfloat16", "gpu"):
            short = [step(x).item() for _ in range(WARM_UP + 2)]
        assert len(set(short)) == 1 and short[0] != sums[0]
    assert len(step.recordings) == 3


def test_memory_of_the_plain_calls_is_given_back_when_a_step_is_recorded(cupy):
    pool = cupy.cuda.MemoryPool()
    with working_on("gpu"), cupy.cuda.using_allocator(pool.malloc):
        step = Captured(lambda x: x + cupy.ones((64, 1024)), tiny_model(), pytest.fail)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cupy, "get_default_memory_pool", lambda: pool)
            x = cupy.zeros(1024)
            for _ in range(WARM_UP):
                step(x)
            before = pool.total_bytes()
            assert float(step(x)[0, 0]) == 1
        assert before > 2 * 64 * 1024 * 8 > 64 * 1024 * 8 > pool.total_bytes()


# ── how much a step asks for ─────────────────────────────────────────────────────────────────────

DROPPING = {"drop_path_rate": 0.2}
MOST = {  # batch; launches besides products; settings
    "swin_cifar": (512, 193, DROPPING), "swin_tiny": (64, 270, DROPPING), "resnet18": (64, 485, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MOST)
def test_a_whole_step_has_few_launches_no_wait_and_one_copy(name):
    """Forward, backward, clipping, AdamW and the running mean of the weights, replayed."""
    if host_cuda.entered() is None:
        pytest.skip("what is asked of a real GPU is not counted")
    with working_on("gpu"), host_cuda.counted(computing=False):
        images, most, settings = MOST[name]
        model = create_model(name, rng=np.random.default_rng(0), **settings).to("gpu")
        optimizer = AdamW(model.train().named_parameters(), 1e-3)
        average = WeightAverage(model.named_parameters(), 0.99)

        def differentiate(x, targets):
            loss = ops.cross_entropy(model(x), targets)
            backward(model, loss, 1.0)
            return loss.data

        step = Captured(differentiate, model, pytest.fail)
        x = to_device(np.zeros((images, 3, *model.img_size), np.float32), "gpu")
        targets = to_device(np.zeros(images, np.int64), "gpu")
        for _ in range(STEPS):
            with host_cuda.counted(computing=False) as counts:
                step(x, targets)
                optimizer.step()
                average.update()
    assert counts["graph"] == 1 and 100 < counts["kernel"] <= most
    assert counts["copy from the host"] == bool(settings)  # what the drop paths draw
    assert not counts.keys() & {"wait", "copy to the host", "malloc"}
